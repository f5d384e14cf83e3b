//! The table `[rules]` of the configuration file.
//!
//! Must not: know defaults; what is not mentioned stays as it is.

use toml::de::DeTable;

use super::{Item, Reader, rule_text, values};
use crate::settings::{RuleChange, RuleEdit};
use crate::signals::Signal;

impl<'t> Reader<'t> {
    pub(super) fn rules(&mut self, item: &Item<'t>) {
        let shape = "tables [rules.cpu], [rules.memory], [rules.threads], [rules.goroutines], \
                     [rules.leak], [rules.psi]";
        let Some(table) = self.table(item, shape) else {
            return;
        };
        let known = Signal::ALL.map(Signal::name);
        for (name, item) in self.items("rules.", table, &known) {
            let Ok(signal) = rule_text::signal(name) else { continue };
            if item.value.get_ref().as_str() == Some("off") {
                self.layer.rules.push(RuleEdit { signal, change: RuleChange::Off });
                continue;
            }
            let Some(numbers) = self.table(&item, "\"off\", or a table of numbers") else {
                continue;
            };
            let prefix = format!("rules.{name}.");
            let change = match signal {
                Signal::Cpu | Signal::Memory | Signal::Threads | Signal::Goroutines => {
                    self.rule(&prefix, numbers)
                }
                Signal::Leak => self.leak_rule(&prefix, numbers),
                Signal::Psi => self.psi_rule(&prefix, numbers),
            };
            self.layer.rules.push(RuleEdit { signal, change });
        }
    }

    fn rule(&mut self, prefix: &str, table: &'t DeTable<'t>) -> RuleChange {
        let (mut min, mut diff, mut abs, mut max, mut cooldown) = (None, None, None, None, None);
        for (name, item) in self.items(prefix, table, &rule_text::PARTS) {
            match name {
                "min" => min = self.float(&item, &values::RULE_NUMBER),
                "diff" => diff = self.float(&item, &values::RULE_NUMBER),
                "abs" => abs = self.float(&item, &values::RULE_NUMBER),
                "max" => max = self.float(&item, &values::RULE_NUMBER),
                _ => cooldown = self.duration(&item, &values::COOLDOWN),
            }
        }
        RuleChange::Set { min, diff, abs, max, cooldown }
    }

    fn leak_rule(&mut self, prefix: &str, table: &'t DeTable<'t>) -> RuleChange {
        let (mut rate, mut span, mut within, mut cooldown) = (None, None, None, None);
        for (name, item) in self.items(prefix, table, &rule_text::LEAK_PARTS) {
            match name {
                "rate" => {
                    rate = self
                        .text(&item)
                        .and_then(|text| self.accept(&item, values::LEAK_RATE.parse(text)));
                }
                "for" => span = self.duration(&item, &values::LEAK_FOR),
                "within" => within = self.duration(&item, &values::LEAK_WITHIN),
                _ => cooldown = self.duration(&item, &values::COOLDOWN),
            }
        }
        RuleChange::SetLeak { rate, span, within, cooldown }
    }

    fn psi_rule(&mut self, prefix: &str, table: &'t DeTable<'t>) -> RuleChange {
        let (mut stall, mut window, mut min, mut cooldown) = (None, None, None, None);
        for (name, item) in self.items(prefix, table, &rule_text::PSI_PARTS) {
            match name {
                "stall" => stall = self.duration(&item, &values::PSI_STALL),
                "window" => window = self.duration(&item, &values::PSI_WINDOW),
                "min" => min = self.float(&item, &values::RULE_NUMBER),
                _ => cooldown = self.duration(&item, &values::COOLDOWN),
            }
        }
        RuleChange::SetPsi { stall, window, min, cooldown }
    }
}
