//! `outrigger promote`: the mirror of a content becomes its primary.
//!
//! Guarantees: nothing is lost without `--accept-data-loss`. Not here: what is checked before (cluster).

use clap::Args;
use outrigger_cluster::operator::{Answer, Loss, Request};
use outrigger_wal::ContentId;
use serde_json::json;

use super::asking::{Asking, Consent, refused};
use super::page::Page;
use crate::error::{Error, Verdict};
use crate::output::{say, say_json};
use crate::process;

#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The content
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    content: i32,
    /// Promote a copy that may lack commits: what is lost at most is said and recorded
    ///
    /// Commits that an old primary makes later, if it is still alive, are lost too. Refused while a copy in
    /// sync is up.
    #[arg(long)]
    accept_data_loss: bool,
    /// An administrator has made sure that the old primary takes no writes any more
    #[arg(long, requires = "accept_data_loss")]
    old_primary_is_fenced: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

impl Promote {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let content = ContentId(self.content);
        let loss = match (self.accept_data_loss, self.old_primary_is_fenced) {
            (false, _) => Loss::None,
            (true, false) => Loss::Accepted,
            (true, true) => Loss::AcceptedAndFenced,
        };
        if loss != Loss::None {
            let mut plan = Page::default();
            plan.line(format!(
                "content {content}: a copy that may lack commits becomes its primary"
            ));
            self.consent.to(&plan, self.asking.json, "Lose what it lacks?")?;
        }
        let request = Request::Promote { content, loss };
        match process::runtime()?.block_on(self.asking.ask(&request))? {
            Answer::Promoted { primary, epoch, version, .. } if self.asking.json => {
                say_json(&json!({
                    "content": content.0,
                    "primary": primary.to_string(),
                    "epoch": epoch.number,
                    "version": version.0,
                }))?;
            }
            Answer::Promoted { primary, epoch, .. } => {
                let epoch = epoch.number;
                say(format_args!("content {content}: {primary} is the primary, epoch {epoch}"))?;
            }
            answer => return Err(refused(content, answer)),
        }
        Ok(Verdict::Good)
    }
}
