//! Incidents that somebody asks for: by a signal, or over HTTP.

use std::path::Path;

use tracing::info;

use super::{PROC, Recorder};
use crate::capture::Input;
use crate::collect::clock;
use crate::serve::{TriggerAnswer, TriggerRequest, TriggerTarget};
use crate::signals::Target;

impl Recorder {
    /// Cuts an incident of each target now.
    pub(super) fn trigger(&mut self, targets: &[Target]) -> Result<(), String> {
        let now = clock::monotonic();
        for target in targets {
            self.flight.trigger(now, Some(target.clone())).map_err(|error| error.to_string())?;
            self.tap.write(&Input::Trigger { time: now, target: Some(target.clone()) });
            info!("an incident of {target} will be cut");
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, request: TriggerRequest) {
        let watched = &self.live.watched;
        let targets = match request.target() {
            None => Ok(watched.targets()),
            Some(TriggerTarget::Host) => Ok(vec![Target::Host]),
            Some(TriggerTarget::Process(pid)) => {
                watched.find_process(*pid, Path::new(PROC)).map(|target| vec![target])
            }
            Some(TriggerTarget::Cgroup(path)) => {
                watched.find_cgroup(Path::new(path)).map(|target| vec![target])
            }
        };
        let targets = targets.map_err(|error| error.to_string()).and_then(|targets| match targets
            .iter()
            .find(|target| !watched.covers(target))
        {
            Some(target) => Err(format!("{target} is not watched")),
            None => Ok(targets),
        });
        let answer = match targets {
            Err(reason) => {
                TriggerAnswer::UnknownTarget { reason: format!("{reason}; watching {watched}") }
            }
            Ok(targets) => match self.trigger(&targets) {
                Ok(()) => {
                    let names: Vec<String> = targets.iter().map(Target::to_string).collect();
                    TriggerAnswer::Accepted { target: names.join(", ") }
                }
                Err(reason) => {
                    TriggerAnswer::Busy { reason, retry_after: self.settings.tunables.after }
                }
            },
        };
        request.answer(answer);
    }
}
