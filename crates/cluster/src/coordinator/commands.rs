//! What operators and clients ask.
//!
//! Guarantees: authorised in one place; a promotion is refused while the primary is in touch, and
//! while nobody can know whether it is; whoever may be told why is told in words.

use bytes::Bytes;
use outrigger_net::config::{Config, Copy};
use outrigger_net::message::{Message, Role};
use outrigger_replica::member::LinkId;
use outrigger_wal::format::DEFAULT_SEGMENT_BYTES;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, InstanceId, LogId};

use super::event::{Event, Out};
use super::{CATALOG, Coordinator, Pending};
use crate::authority::first_config;
use crate::catalog::{Change, Refused, state::is_segment_size};
use crate::operator::{Answer, Loss, Place, Registration, Request};
use crate::register::{Conflict, Proposer};

/// How often a registration that met another change is tried.
const MAX_TRIES: u32 = 16;

/// Who may ask what.
const fn is_allowed(role: Role, request: &Request) -> bool {
    match role {
        Role::Operator => true,
        Role::Client | Role::Instance => {
            matches!(request, Request::LookUp { .. } | Request::State)
        }
        _ => false,
    }
}

/// What to do about a registration.
enum Admission {
    /// It has its place.
    Placed,
    Append(Box<Change>),
}

impl Coordinator {
    pub(super) fn request(
        &mut self,
        link: LinkId,
        role: Role,
        op: u64,
        body: &Bytes,
        out: &mut Vec<Out>,
    ) {
        let request = match Request::decode(body) {
            Ok(request) => request,
            Err(error) => {
                self.deny(link, op, format!("the request cannot be read: {error}"), out);
                return;
            }
        };
        if !is_allowed(role, &request) {
            self.deny(link, op, "only an operator may ask for this".to_owned(), out);
            return;
        }
        match request {
            Request::Promote { content, loss } => {
                if let Err(text) = self.promote(link, op, (content, loss), out) {
                    self.deny(link, op, text, out);
                }
            }
            Request::Recover { content } => match self.recovery(content) {
                Some(answer) => self.answer(link, op, &answer, out),
                None => self.deny(link, op, no_content(content), out),
            },
            Request::State => {
                let answer = Answer::State(self.state());
                self.answer(link, op, &answer, out);
            }
            Request::LookUp { content } => match self.place(content) {
                Some(place) => self.answer(link, op, &Answer::Found(place), out),
                None => self.deny(link, op, no_content(content), out),
            },
            Request::Register(registration) => {
                self.register_instance(link, op, registration, 0, out)
            }
            Request::Found(founding) => self.found((link, op), founding, out),
            Request::BringBack { contents, mode, max_rate_bytes } => {
                self.bring_back((link, op), &contents, (mode, max_rate_bytes), out);
            }
            Request::Rebalance => self.rebalance((link, op), out),
            Request::Start => self.start((link, op), out),
            Request::Stop { host } => self.stop((link, op), host, out),
            Request::AddCopies { hosts, rows } => self.add_copies((link, op), hosts, rows, out),
            Request::DropCopies { dbids } => self.drop_copies((link, op), &dbids, out),
            Request::History { limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let rows = self.catalog.read(|state| {
                    let skip = state.history.len().saturating_sub(limit);
                    state.history.iter().skip(skip).cloned().collect()
                });
                self.answer(link, op, &Answer::History(rows), out);
            }
            Request::Set { key, value } => match crate::settings::check(&key, value) {
                Ok(()) => {
                    let text = format!("{key} is {value} from now on");
                    self.work(vec![Change::Set { key, value }], Some((link, op)), text, out);
                }
                Err(text) => self.deny(link, op, text, out),
            },
            Request::Activate { .. } => {
                let text =
                    "this is the acting coordinator: its standby is what is activated".to_owned();
                self.deny(link, op, text, out);
            }
            Request::Restore { body } => {
                let text = "the catalog is made anew".to_owned();
                self.work(vec![Change::Restore { body }], Some((link, op)), text, out);
            }
            Request::Expand(founding) => self.expand((link, op), founding, out),
        }
    }

    pub(super) fn done(&mut self, link: LinkId, op: u64, text: String, out: &mut Vec<Out>) {
        self.answer(link, op, &Answer::Done { text }, out);
    }

    pub(super) fn deny(&mut self, link: LinkId, op: u64, text: String, out: &mut Vec<Out>) {
        self.answer(link, op, &Answer::Denied { text }, out);
    }

    fn answer(&mut self, link: LinkId, op: u64, answer: &Answer, out: &mut Vec<Out>) {
        match answer.encode() {
            Ok(body) => self.send(link, Message::Response { op, body }, out),
            Err(error) => {
                out.push(Out::Event(Event::Refused { text: error.to_string() }));
                self.hang_up(link, out);
            }
        }
    }

    /// S3, as far as it can be judged before it is decided.
    fn promote(
        &mut self,
        link: LinkId,
        op: u64,
        (content, loss): (ContentId, Loss),
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        if content == CATALOG {
            return Err("a standby is activated by `outrigger activate-standby`".to_owned());
        }
        if loss != Loss::None {
            return self.promote_with_loss(link, op, (content, loss), out);
        }
        let register = self.register(content).ok_or_else(|| no_content(content))?;
        let config = register.config().ok_or_else(|| no_content(content))?.clone();
        let primary = config.primary;
        if !self.is_proved(content) {
            return Err(format!(
                "content {content} does not fail over before every copy of it has reported: its catalog was \
                 activated by force"
            ));
        }
        let answers = self.detector.known(primary).is_some_and(|at| at.standing.is_up());
        if answers || self.in_touch(content, primary) {
            return Err(format!(
                "the primary of content {content}, {primary}, is alive and in touch with the \
                 coordinator; stop it first"
            ));
        }
        let since = self.serving.map_or(0, |serving| self.now.since(serving.since));
        if since < self.silence_micros() {
            return Err(format!(
                "the coordinator has served for {} ms only: a primary that is alive is heard within \
                 {} ms; ask again then",
                since / 1000,
                self.options.silence_millis
            ));
        }
        let to = register
            .candidate(|instance| self.in_touch(content, instance))
            .ok_or_else(|| self.no_candidate(content, &config))?;
        let nonce = self.draw();
        let new = register.promotion(to, nonce).map_err(|conflict| conflict.to_string())?;
        // Checked again, and decided, when it is applied.
        let (seen, rules) = (config.version, self.catalog.rules());
        register
            .decide(seen, &new, Proposer::Coordinator, rules)
            .map_err(|conflict| conflict.to_string())?;
        let reports = self.take_reports(content);
        let change = Change::Swap { content, seen, new, proposer: Proposer::Coordinator, reports };
        if self.append(change, Pending::Promote { link, op, content, to }, out) {
            Ok(())
        } else {
            Err("too many changes wait already; ask again".to_owned())
        }
    }

    fn no_candidate(&self, content: ContentId, config: &Config) -> String {
        let others = config.copies.iter().filter(|copy| copy.instance != config.primary);
        let why: Vec<_> = others
            .map(|copy| match (copy.in_sync, self.in_touch(content, copy.instance)) {
                (false, _) => format!("{} is not in sync and may lack commits", copy.instance),
                (true, false) => format!("{} is in sync and not in touch: start it", copy.instance),
                (true, true) => format!("{} is in sync and in touch", copy.instance),
            })
            .collect();
        let why = if why.is_empty() { "it has no other copy".to_owned() } else { why.join("; ") };
        format!("no copy of content {content} can be promoted without a loss: {why}")
    }

    pub(super) fn promoted(
        &mut self,
        link: LinkId,
        op: u64,
        content: ContentId,
        to: InstanceId,
        result: Result<(), Refused>,
        out: &mut Vec<Out>,
    ) {
        // Later changes may be applied already: the epoch then tells whether it still reigns.
        match (result, self.config(content)) {
            (Ok(()), Some(Config { primary, epoch, version, .. })) if primary == to => {
                self.answer(link, op, &Answer::Promoted { content, primary, epoch, version }, out);
            }
            (Err(refused), _) => {
                let text = format!("the configuration changed meanwhile: {refused}; ask again");
                self.deny(link, op, text, out);
            }
            (Ok(()), _) => {
                let text = format!("{to} was promoted, and lost its reign to another since");
                self.deny(link, op, text, out);
            }
        }
    }

    fn register_instance(
        &mut self,
        link: LinkId,
        op: u64,
        registration: Registration,
        tries: u32,
        out: &mut Vec<Out>,
    ) {
        let log = LogId(self.draw());
        let content = registration.content;
        match self.admit(&registration, log) {
            Ok(Admission::Placed) => match self.place(content) {
                Some(place) => self.answer(link, op, &Answer::Registered(place), out),
                None => self.deny(link, op, no_content(content), out),
            },
            Ok(Admission::Append(change)) => {
                let waiting = Pending::Register { link, op, registration, tries };
                if !self.append(*change, waiting, out) {
                    let text = "the registration cannot be recorded now; ask again".to_owned();
                    self.deny(link, op, text, out);
                }
            }
            Err(text) => self.deny(link, op, text, out),
        }
    }

    fn admit(&self, registration: &Registration, log: LogId) -> Result<Admission, String> {
        let Registration { content, instance, addresses, segment_bytes } = registration;
        let (content, instance, segment_bytes) = (*content, *instance, *segment_bytes);
        if content.0 < 0 {
            return Err(format!("content {content} cannot be served by an instance"));
        }
        if instance == InstanceId::default() {
            return Err("an instance needs an identity".to_owned());
        }
        if addresses.is_empty() || addresses.iter().any(String::is_empty) {
            return Err("an instance needs an address that its peers can reach".to_owned());
        }
        self.catalog.read(|state| {
            if let Some(other) = state.content_of(instance).filter(|other| *other != content) {
                return Err(Refused::ServesAnother { instance, content: other }.to_string());
            }
            let Some(row) = state.contents.get(&content) else {
                let segment_bytes =
                    if segment_bytes == 0 { DEFAULT_SEGMENT_BYTES } else { segment_bytes };
                if !is_segment_size(segment_bytes) {
                    return Err(Refused::SegmentBytes { found: segment_bytes }.to_string());
                }
                let config = first_config(instance, addresses.clone());
                return Ok(Admission::Append(Box::new(Change::Create {
                    content,
                    log,
                    segment_bytes,
                    config,
                })));
            };
            if segment_bytes != 0 && segment_bytes != row.segment_bytes {
                return Err(format!(
                    "content {content} has segments of {} bytes, not {segment_bytes}",
                    row.segment_bytes
                ));
            }
            let Some(current) = row.register.config() else { return Err(no_content(content)) };
            let mut new = Config { version: current.version.next(), ..current.clone() };
            match new.copies.iter_mut().find(|copy| copy.instance == instance) {
                Some(copy) if copy.addresses == *addresses => return Ok(Admission::Placed),
                Some(copy) => copy.addresses.clone_from(addresses),
                None if current.copies.len() >= self.options.copies => {
                    let held: Vec<_> =
                        current.copies.iter().map(|copy| copy.instance.to_string()).collect();
                    return Err(format!(
                        "content {content} has its {} copies: {}",
                        self.options.copies,
                        held.join(", ")
                    ));
                }
                None => new.copies.push(Copy {
                    instance,
                    addresses: addresses.clone(),
                    in_sync: false,
                    held: false,
                    durable: Promise::NONE,
                }),
            }
            Ok(Admission::Append(Box::new(Change::Swap {
                content,
                seen: current.version,
                new,
                proposer: Proposer::Operator,
                reports: Vec::new(),
            })))
        })
    }

    pub(super) fn registered(
        &mut self,
        link: LinkId,
        op: u64,
        registration: Registration,
        tries: u32,
        result: Result<(), Refused>,
        out: &mut Vec<Out>,
    ) {
        let raced = matches!(
            result,
            Err(Refused::ContentExists { .. } | Refused::Conflict(Conflict::VersionMoved { .. }))
        );
        match result {
            Err(refused) if !raced || tries >= MAX_TRIES => {
                self.deny(link, op, refused.to_string(), out);
            }
            // It is placed now, or another change came first: either way, look again.
            _ => self.register_instance(link, op, registration, tries.saturating_add(1), out),
        }
    }

    fn place(&self, content: ContentId) -> Option<Place> {
        let coordinator_epoch = self.serving()?.number;
        let cluster = self.identity.cluster;
        self.catalog.read(|state| {
            let row = state.contents.get(&content)?;
            let config = row.register.config()?.clone();
            let (log, segment_bytes) = (row.log, row.segment_bytes);
            Some(Place { cluster, content, log, segment_bytes, coordinator_epoch, config })
        })
    }
}

pub(super) fn no_content(content: ContentId) -> String {
    Refused::NoContent { content }.to_string()
}
