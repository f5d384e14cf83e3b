//! SIGHUP: the configuration file is read again.

use tracing::{error, info, warn};

use super::Recorder;
use crate::capture::{CaptureSettings, Input};

impl Recorder {
    /// Reads the configuration file again.
    pub(super) fn reload(&mut self) {
        let Some(reload) = &self.settings.reload else {
            warn!("SIGHUP: there is no --config to read again");
            return;
        };
        match reload.run() {
            Ok(reloaded) => {
                for key in &reloaded.needs_restart {
                    warn!("{key} has changed in {}: needs a restart", reload.file().display());
                }
                info!("reloaded {}", reload.file().display());
                self.store.set_retention(reloaded.tunables.retention);
                self.feed(Input::Reload(Box::new(CaptureSettings::from(&reloaded.tunables))));
                self.settings.tunables = reloaded.tunables;
            }
            Err(error) => error!("the configuration stays as it was: {error}"),
        }
    }
}
