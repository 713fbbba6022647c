//! Recovery in a cluster without agents: copies that run come back by themselves, and are waited for.
//!
//! Guarantees: changes nothing. Not here: starting processes.

use std::time::Duration;

use outrigger_cluster::operator::{Answer, Request};
use outrigger_wal::ContentId;
use tokio::time::{Instant, sleep};

use crate::cli::asking::{Asking, refused};
use crate::error::{Error, Verdict};
use crate::output::say;

/// How often a copy that is not in sync is looked at.
const LOOK_TIME: Duration = Duration::from_millis(200);

/// Waits until all copies of a content are in sync, and says what they wait for.
///
/// # Errors
/// They are not within the patience that was given.
pub(super) async fn wait(asking: &Asking, content: ContentId) -> Result<Verdict, Error> {
    let patience = asking.patience.time();
    let until = Instant::now() + patience;
    let mut said = String::new();
    loop {
        match asking.ask(&Request::Recover { content }).await? {
            Answer::Recovery { done: true, .. } => {
                asking.tell(&format!("content {content}: all copies are in sync"))?;
                return Ok(Verdict::Good);
            }
            Answer::Recovery { text, .. } => {
                if text != said {
                    if !asking.json {
                        say(format_args!("content {content}: {text}"))?;
                    }
                    said = text;
                }
            }
            answer => return Err(refused(content, answer)),
        }
        if Instant::now() >= until {
            return Err(Error::Partial(format!(
                "content {content}: not in sync within {} s: {said}; ask again, or look at \
                 `outrigger state`",
                patience.as_secs_f64()
            )));
        }
        sleep(LOOK_TIME).await;
    }
}
