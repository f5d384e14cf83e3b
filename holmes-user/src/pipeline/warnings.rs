//! Waits for the kernel's early warnings about memory, without reading anything before one comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::rules::PsiRule;
use crate::signals::{Raised, Target, WarningFile, WarningPlace};

/// Targets whose warnings are waited for. Each takes two descriptors of the 1024 that a process has
/// by default, and with `CAP_SYS_RESOURCE` a thread of the kernel's.
const MAX_WATCHED: usize = 128;

/// Warnings that wait for the loop: it takes them several times a second.
const QUEUE: usize = 64;

/// A file is looked at once in this time: the kernel counts events by the thousand.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// A target's files.
#[derive(Default)]
struct Waiting {
    /// Ends with the target: each waits for one file.
    tasks: JoinSet<()>,
    /// Whether none of its files could be opened. It is not tried again as long as it exists.
    refused: bool,
    /// The inode of its directory: one that is made anew has the same path, and nobody wakes who waits
    /// for the old one's events.
    inode: Option<u64>,
}

/// What is to be waited for, wherever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Stall and window of the triggers, if a rule asks for warnings.
    trigger: Option<(Duration, Duration)>,
    /// Whether kills are counted: no probe tells of them.
    kills: bool,
}

/// All that is waited for.
pub(super) struct Warnings {
    wanted: Wanted,
    watched: BTreeMap<Target, Waiting>,
    sender: Sender<(Target, Raised)>,
    pub(super) received: Receiver<(Target, Raised)>,
    /// What was said in the log already.
    said: BTreeSet<&'static str>,
}

impl Warnings {
    pub(super) fn new() -> Self {
        let (sender, received) = channel(QUEUE);
        let (watched, said) = (BTreeMap::new(), BTreeSet::new());
        Self { wanted: Wanted::default(), watched, sender, received, said }
    }

    /// Waits at these places and no longer at others: for warnings if there is a rule, and for kills if
    /// nobody else tells of them.
    pub(super) fn follow(
        &mut self,
        rule: Option<&PsiRule>,
        kills: bool,
        places: impl Iterator<Item = WarningPlace>,
    ) {
        let wanted = Wanted { trigger: rule.map(|rule| (rule.stall, rule.window)), kills };
        if self.wanted != wanted {
            self.wanted = wanted;
            self.watched.clear();
        }
        if wanted == Wanted::default() {
            return;
        }
        let places: BTreeMap<Target, WarningPlace> =
            places.map(|place| (place.target.clone(), place)).collect();
        // A cgroup whose files have ended was removed, and may have been made again.
        self.watched.retain(|target, waiting| {
            while waiting.tasks.try_join_next().is_some() {}
            let same = places.get(target).is_some_and(|place| inode(place) == waiting.inode);
            same && (waiting.refused || !waiting.tasks.is_empty())
        });
        if places.is_empty() && self.said.insert("nowhere") {
            info!("early warnings are off: only the host and cgroups v2 have them");
        }
        for (target, place) in places {
            if self.watched.contains_key(&target) {
                continue;
            }
            if self.watched.len() >= MAX_WATCHED {
                if self.said.insert("full") {
                    warn!("early warnings of more than {MAX_WATCHED} cgroups are not waited for");
                }
                break;
            }
            let waiting = self.wait(&place, wanted);
            self.watched.insert(target, waiting);
        }
    }

    fn wait(&mut self, place: &WarningPlace, wanted: Wanted) -> Waiting {
        let mut waiting = Waiting { inode: inode(place), ..Waiting::default() };
        if let Some((stall, window)) = wanted.trigger {
            let pressure = WarningFile::pressure(&place.pressure, stall, window);
            self.add(&mut waiting, place, "memory.pressure", pressure);
        }
        if let Some(directory) = &place.cgroup {
            self.add(&mut waiting, place, "memory.events", WarningFile::events(directory));
        }
        waiting.refused = waiting.tasks.is_empty();
        waiting
    }

    fn add(
        &mut self,
        waiting: &mut Waiting,
        place: &WarningPlace,
        name: &'static str,
        file: io::Result<WarningFile>,
    ) {
        // SAFETY: the descriptor of an open file stays the same as long as the file lives.
        let register = |file| unsafe {
            AsyncFd::register_with_interest(file, Interest::PRIORITY).map_err(io::Error::from)
        };
        let target = &place.target;
        match file.and_then(register) {
            Ok(file) => {
                waiting.tasks.spawn(listen(file, target.clone(), self.sender.clone()));
            }
            // One that is gone meanwhile is no news; of what fails for one, the others are as bad.
            Err(_) if place.cgroup.as_ref().is_some_and(|directory| !directory.exists()) => {}
            Err(error) if self.said.insert(name) => {
                warn!("no early warnings by {name}: {target}: {error} (see holmes-ebpf check)");
            }
            Err(_) => {}
        }
    }
}

/// The inode of a cgroup's directory; `None` of the host, and of one that is gone.
fn inode(place: &WarningPlace) -> Option<u64> {
    fs::metadata(place.cgroup.as_ref()?).ok().map(|directory| directory.ino())
}

/// Hands on what a file warns of, until it ends.
async fn listen(mut file: AsyncFd<WarningFile>, target: Target, out: Sender<(Target, Raised)>) {
    loop {
        let Ok(mut raised) = file.ready_mut(Interest::PRIORITY).await else { return };
        // Before the file is read: what comes in between is news.
        raised.clear_ready();
        match raised.get_inner_mut().take() {
            Ok(raised) if raised == Raised::default() => {}
            Ok(raised) => {
                if out.send((target.clone(), raised)).await.is_err() {
                    return;
                }
            }
            // The cgroup is gone.
            Err(_) => return,
        }
        tokio::time::sleep(AT_MOST_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleSet;

    #[tokio::test]
    async fn what_is_waited_for_is_bounded_and_goes_with_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let place = |number: u32| WarningPlace {
            target: Target::Cgroup { path: format!("/{number}"), container: None },
            pressure: folder.path().join("memory.pressure"),
            cgroup: Some(folder.path().to_owned()),
        };
        let psi = RuleSet::default().psi.unwrap();
        let mut warnings = Warnings::new();
        warnings.follow(Some(&psi), false, (0..1000).map(place));
        assert_eq!(warnings.watched.len(), MAX_WATCHED);
        // None of them has such files: that is not tried again and again.
        assert!(warnings.watched.values().all(|waiting| waiting.refused));
        assert!(
            ["memory.pressure", "memory.events", "full"]
                .iter()
                .all(|it| warnings.said.contains(it))
        );
        warnings.follow(Some(&psi), false, (5..9).map(place));
        assert_eq!(warnings.watched.len(), 4);
        warnings.follow(None, true, (5..7).map(place));
        assert_eq!(warnings.watched.len(), 2);
        warnings.follow(None, false, (5..9).map(place));
        assert!(warnings.watched.is_empty());
        assert!(!warnings.said.contains("nowhere"));
        warnings.follow(Some(&psi), false, std::iter::empty());
        assert!(warnings.said.contains("nowhere"));
    }
}
