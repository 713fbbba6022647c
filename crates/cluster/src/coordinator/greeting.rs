//! Who may connect, and the fence on every message (S0).
//!
//! Guarantees: nothing of a message from another cluster, content or session is looked at. A peer that
//! knows of a higher reign of the coordinator, or of a configuration that this catalog never recorded, is
//! refused and raises an alarm: this catalog has lost something. Lower epochs and versions are no
//! error here: such an instance has missed something, and is told.

use outrigger_net::handshake::{Identity as Side, check_hello};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role};
use outrigger_replica::member::LinkId;
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

use super::event::{Event, Out};
use super::{CATALOG, Coordinator, Link};
use crate::detect;

/// A refusal: the reason, in words, and whether somebody has to look.
type Refusal = (Reason, String, bool);

impl Coordinator {
    /// Takes a message: the first on a connection is `Hello`.
    pub(super) fn frame(
        &mut self,
        link: LinkId,
        envelope: Envelope,
        message: Message,
        out: &mut Vec<Out>,
    ) {
        if self.serving.is_none() {
            let text = "the coordinator does not serve yet".to_owned();
            self.refuse(link, &envelope, Reason::NotReady, text, out);
            return;
        }
        let taken = match self.links.get(&link) {
            None => self.hello(link, envelope, message, out),
            Some(known) => {
                let fenced = self.fence(known, &envelope);
                fenced.and_then(|()| self.message(link, &envelope, message, out))
            }
        };
        if let Err((reason, text, alarm)) = taken {
            if alarm {
                out.push(Out::Event(Event::Alarm { text: text.clone() }));
            }
            self.refuse(link, &envelope, reason, text, out);
        }
    }

    fn hello(
        &mut self,
        id: LinkId,
        mut envelope: Envelope,
        message: Message,
        out: &mut Vec<Out>,
    ) -> Result<(), Refusal> {
        let Message::Hello { role, from, .. } = message else {
            return refuse(Reason::OutOfTurn, "the first message must be a Hello".to_owned());
        };
        let session = envelope.session;
        let content = envelope.content;
        let log = match role {
            Role::Instance => self.place_of(content, from)?,
            Role::Operator | Role::Client => {
                if content != CATALOG {
                    let text = format!("this is content {CATALOG}, not {content}");
                    return refuse(Reason::WrongContent, text);
                }
                if envelope.cluster == ClusterId::default() {
                    envelope.cluster = self.identity.cluster;
                }
                LogId::default()
            }
            _ => {
                let text = "the coordinator is no copy, and takes no log".to_owned();
                return refuse(Reason::NotAMember, text);
            }
        };
        let me = Side {
            cluster: self.identity.cluster,
            content,
            instance: self.identity.instance,
            log,
            abilities: Abilities::OURS,
        };
        let chosen = check_hello(&me, &envelope, &message)
            .map_err(|(reason, text)| (reason, text, false))?;
        let now = self.now;
        let link =
            Link { role, content, instance: from, session, heard: now, said: now, told: None };
        self.fence(&link, &envelope)?;
        if role == Role::Instance {
            self.replace_older(content, from, out);
            out.push(Out::Event(Event::Arrived { content, instance: from }));
        }
        self.links.insert(id, link);
        if role == Role::Instance {
            self.detect(detect::In::LineOpened { instance: from }, out);
        }
        let welcome = Message::Welcome {
            from: self.identity.instance,
            protocol: chosen.protocol,
            abilities: Abilities::OURS,
            history: History::default(),
        };
        self.send(id, welcome, out);
        Ok(())
    }

    /// The log of a content, if the instance has a copy of it.
    fn place_of(&self, content: ContentId, instance: InstanceId) -> Result<LogId, Refusal> {
        if content == CATALOG {
            return match &self.own {
                Some(own) if own.copy(instance).is_some() => Ok(self.identity.log),
                _ => {
                    let text = format!("instance {instance} has no copy of the catalog");
                    refuse(Reason::NotAMember, text)
                }
            };
        }
        self.catalog.read(|state| {
            let Some(row) = state.contents.get(&content) else {
                return refuse(Reason::WrongContent, format!("there is no content {content} here"));
            };
            let copy = row.register.config().and_then(|config| config.copy(instance));
            if copy.is_none() {
                let text = format!("instance {instance} has no copy of content {content}");
                return refuse(Reason::NotAMember, text);
            }
            Ok(row.log)
        })
    }

    /// An instance has one connection: the newest.
    fn replace_older(&mut self, content: ContentId, instance: InstanceId, out: &mut Vec<Out>) {
        let same = |link: &Link| {
            link.role == Role::Instance && (link.content, link.instance) == (content, instance)
        };
        let older: Vec<_> =
            self.links.iter().filter(|(_, link)| same(link)).map(|(id, _)| *id).collect();
        for link in older {
            self.hang_up(link, out);
        }
    }

    /// S0: what a message must carry to be looked at.
    fn fence(&self, link: &Link, envelope: &Envelope) -> Result<(), Refusal> {
        let cluster = self.identity.cluster;
        let nameless = link.role != Role::Instance && envelope.cluster == ClusterId::default();
        if envelope.cluster != cluster && !nameless {
            let text = format!("this is cluster {cluster}, not {}", envelope.cluster);
            return refuse(Reason::WrongCluster, text);
        }
        if envelope.content != link.content {
            let text =
                format!("the connection is for content {}, not {}", link.content, envelope.content);
            return refuse(Reason::WrongContent, text);
        }
        if envelope.session != link.session {
            return refuse(Reason::OutOfTurn, "the message is of another session".to_owned());
        }
        if link.role != Role::Instance {
            return Ok(());
        }
        let own = self.serving().unwrap_or_default().number;
        let lost = "this coordinator's catalog has lost something; stop it and look";
        if envelope.coordinator_epoch > own {
            let text = format!(
                "{} has heard a coordinator of epoch {}, this one has {own}: {lost}",
                link.instance, envelope.coordinator_epoch
            );
            return Err((Reason::StaleCoordinator, text, true));
        }
        let Some(config) = self.config(link.content) else { return Ok(()) };
        if envelope.version > config.version {
            let text = format!(
                "{} acts under version {}, the newest recorded here is {}: {lost}",
                link.instance, envelope.version.0, config.version.0
            );
            return Err((Reason::StaleVersion, text, true));
        }
        if envelope.epoch.number > config.epoch.number {
            let text = format!(
                "{} acts in epoch {}, the newest recorded here is {}: {lost}",
                link.instance, envelope.epoch, config.epoch
            );
            return Err((Reason::StaleEpoch, text, true));
        }
        if envelope.epoch.number == config.epoch.number && envelope.epoch != config.epoch {
            let text = format!(
                "{} acts in epoch {}, {} is recorded: two reigns have one number",
                link.instance, envelope.epoch, config.epoch
            );
            return Err((Reason::ForeignNonce, text, true));
        }
        Ok(())
    }

    fn message(
        &mut self,
        id: LinkId,
        envelope: &Envelope,
        message: Message,
        out: &mut Vec<Out>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.heard = now;
        let (role, content, instance) = (link.role, link.content, link.instance);
        match (role, message) {
            (_, Message::Keepalive) => {}
            (_, Message::Request { op, body }) => self.request(id, role, op, &body, out),
            (Role::Instance, Message::ReadConfig { op }) => {
                let config = self.config(content);
                self.tell(id, op, config, out);
            }
            (Role::Instance, Message::CompareAndSwap { op, seen, new }) => {
                self.swap(id, op, (content, instance), seen, new, out);
            }
            // That it was cut is in the epoch: what was heard of earlier ones is past.
            (Role::Instance, Message::Report { durable, commit, applied, cut: _ }) => {
                let epoch = envelope.epoch.number;
                let figures = super::Figures { epoch, durable, commit, applied };
                self.report(content, instance, epoch, figures);
                // S8: from now on it takes nothing of an earlier coordinator, whatever happens to it.
                if self.serving().is_some_and(|own| envelope.coordinator_epoch >= own.number) {
                    self.reported.insert((content, instance));
                }
            }
            (Role::Instance, Message::GaveUp { epoch, at }) => {
                self.gave_up(content, epoch);
                self.resigned(content, instance, (epoch, at));
            }
            (_, Message::Refuse { reason, text }) => {
                let text = format!("{instance} refused: {reason:?}: {text}");
                out.push(Out::Event(Event::Refused { text }));
                self.hang_up(id, out);
            }
            _ => {
                let text = "a message that the coordinator does not take from you".to_owned();
                return refuse(Reason::OutOfTurn, text);
            }
        }
        Ok(())
    }
}

const fn refuse<T>(reason: Reason, text: String) -> Result<T, Refusal> {
    Err((reason, text, false))
}
