//! A profile that the recorder wrote, seen by function and label.
//!
//! Must not: trust it. Whatever is read passes the project's validator first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use holmes_user::profile::proto::{Profile, Sample};
use holmes_user::profile::validate::Rule;
use holmes_user::profile::{decode, validate};

/// A valid profile.
#[derive(Clone, Debug)]
pub struct ProfileView {
    profile: Profile,
}

impl ProfileView {
    /// Reads a `.pb.gz` file.
    ///
    /// # Errors
    /// It cannot be read, is no profile, or the validator objects.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::from_bytes(&bytes).with_context(|| format!("the profile {}", path.display()))
    }

    /// Reads the bytes of such a file.
    ///
    /// # Errors
    /// They are no profile, or the validator objects.
    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let profile = decode(bytes).context("decoding")?;
        if let Err(violations) = validate::check(&profile) {
            anyhow::bail!("the validator objects: {violations:#?}");
        }
        Ok(Self { profile })
    }

    /// Reads a file that Go's own runtime wrote: it tells a stack more than once.
    ///
    /// # Errors
    /// As [`ProfileView::read`], but for that.
    pub fn read_of_go(path: &Path) -> anyhow::Result<Self> {
        let profile = decode(&std::fs::read(path)?).context("decoding")?;
        let mut violations = validate::check(&profile).err().unwrap_or_default();
        violations.retain(|violation| violation.rule != Rule::SampleTwice);
        anyhow::ensure!(violations.is_empty(), "the validator objects: {violations:#?}");
        Ok(Self { profile })
    }

    /// The profile itself.
    pub fn raw(&self) -> &Profile {
        &self.profile
    }

    fn text(&self, index: i64) -> &str {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.profile.string_table.get(index))
            .map_or("", |text| text.as_str())
    }

    /// The place of a sample type among the values.
    fn column(&self, sample_type: &str) -> anyhow::Result<usize> {
        self.profile
            .sample_type
            .iter()
            .position(|kind| self.text(kind.r#type) == sample_type)
            .with_context(|| format!("the profile has no sample type {sample_type}"))
    }

    /// The names of a sample's functions, leaf first, inlined ones as well; an address without a
    /// name is left out.
    pub fn functions(&self, sample: &Sample) -> Vec<&str> {
        let locations =
            sample.location_id.iter().filter_map(|&id| entry(&self.profile.location, id));
        locations
            .flat_map(|location| &location.line)
            .filter_map(|line| entry(&self.profile.function, line.function_id))
            .map(|function| self.text(function.name))
            .collect()
    }

    /// The sums of all values by stack, leaf first, each function with its line, and by the number that
    /// a label has. Stacks of which nothing is counted are left out.
    pub fn by_stack(&self, label: &str) -> BTreeMap<(Vec<String>, i64), Vec<i64>> {
        let mut sums = BTreeMap::<(Vec<String>, i64), Vec<i64>>::new();
        for sample in self.profile.sample.iter().filter(|it| it.value.iter().any(|it| *it != 0)) {
            let locations =
                sample.location_id.iter().filter_map(|&id| entry(&self.profile.location, id));
            let lines = locations.flat_map(|location| &location.line);
            let named = |function_id| {
                entry(&self.profile.function, function_id).map_or("", |it| self.text(it.name))
            };
            let stack = lines.map(|line| format!("{}:{}", named(line.function_id), line.line));
            let number = sample.label.iter().find(|it| self.text(it.key) == label);
            let key = (stack.collect(), number.map_or(0, |label| label.num));
            let sum = sums.entry(key).or_insert_with(|| vec![0; sample.value.len()]);
            sum.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum += value);
        }
        sums
    }

    /// The sum of one sample type over the samples that `keep` lets through.
    fn sum(&self, sample_type: &str, keep: impl Fn(&Sample) -> bool) -> anyhow::Result<i64> {
        let column = self.column(sample_type)?;
        let kept = self.profile.sample.iter().filter(|sample| keep(sample));
        Ok(kept.filter_map(|sample| sample.value.get(column)).sum())
    }

    /// The sum over everything.
    ///
    /// # Errors
    /// The profile has no such sample type; so for the others.
    pub fn total(&self, sample_type: &str) -> anyhow::Result<i64> {
        self.sum(sample_type, |_| true)
    }

    /// The sum over the stacks that have a function with `name` in its name.
    ///
    /// # Errors
    /// As [`ProfileView::total`].
    pub fn cumulative(&self, sample_type: &str, name: &str) -> anyhow::Result<i64> {
        self.sum(sample_type, |sample| {
            self.functions(sample).iter().any(|function| function.contains(name))
        })
    }

    /// [`ProfileView::cumulative`] of the samples that have this label.
    ///
    /// # Errors
    /// As [`ProfileView::total`].
    pub fn labelled(
        &self,
        sample_type: &str,
        name: &str,
        (key, value): (&str, &str),
    ) -> anyhow::Result<i64> {
        self.sum(sample_type, |sample| {
            let mut labels = sample.label.iter();
            labels.any(|label| self.text(label.key) == key && self.text(label.str) == value)
                && self.functions(sample).iter().any(|function| function.contains(name))
        })
    }

    /// The sums over the stacks with this function, by what their label `key` says.
    ///
    /// # Errors
    /// As [`ProfileView::total`].
    pub fn by_label(
        &self,
        sample_type: &str,
        name: &str,
        key: &str,
    ) -> anyhow::Result<BTreeMap<String, i64>> {
        let values = self.label_values(key).into_iter();
        let sum = |value: String| {
            let sum = self.labelled(sample_type, name, (key, &value))?;
            Ok((value, sum))
        };
        let sums: anyhow::Result<Vec<(String, i64)>> = values.map(sum).collect();
        Ok(sums?.into_iter().filter(|&(_, sum)| sum != 0).collect())
    }

    /// The sum over the stacks that have a function for each of `names` in that order, the outermost
    /// first.
    ///
    /// # Errors
    /// As [`ProfileView::total`].
    pub fn chain(&self, sample_type: &str, names: &[&str]) -> anyhow::Result<i64> {
        self.sum(sample_type, |sample| {
            let mut wanted = names.iter().peekable();
            for function in self.functions(sample).iter().rev() {
                wanted.next_if(|name| function.contains(**name));
            }
            wanted.peek().is_none()
        })
    }

    /// [`ProfileView::chain`] as a share of everything, in percent.
    ///
    /// # Errors
    /// As [`ProfileView::total`].
    #[allow(clippy::cast_precision_loss)] // counts of a few seconds
    pub fn chain_percent(&self, sample_type: &str, names: &[&str]) -> anyhow::Result<f64> {
        let total = self.total(sample_type)?.max(1);
        Ok(100.0 * self.chain(sample_type, names)? as f64 / total as f64)
    }

    /// [`ProfileView::cumulative`] as a share of everything, in percent; 0 of an empty profile.
    ///
    /// # Errors
    /// As [`ProfileView::total`].
    #[allow(clippy::cast_precision_loss)] // counts of a few seconds
    pub fn percent(&self, sample_type: &str, name: &str) -> anyhow::Result<f64> {
        let total = self.total(sample_type)?.max(1);
        Ok(100.0 * self.cumulative(sample_type, name)? as f64 / total as f64)
    }

    /// The values of a label, numbers as text.
    pub fn label_values(&self, key: &str) -> BTreeSet<String> {
        let labels = self.profile.sample.iter().flat_map(|sample| &sample.label);
        labels
            .filter(|label| self.text(label.key) == key)
            .map(|label| match label.str {
                0 => label.num.to_string(),
                text => self.text(text).to_owned(),
            })
            .collect()
    }

    /// What the profile says of itself, by line.
    pub fn comments(&self) -> impl Iterator<Item = &str> {
        self.profile.comment.iter().map(|index| self.text(*index))
    }

    /// How many samples lack this label.
    pub fn without_label(&self, key: &str) -> usize {
        let has = |sample: &&Sample| sample.label.iter().any(|label| self.text(label.key) == key);
        self.profile.sample.iter().filter(|sample| !has(sample)).count()
    }

    /// The functions with the largest sums of their own, for failure messages.
    pub fn top(&self, sample_type: &str) -> String {
        let Ok(column) = self.column(sample_type) else { return String::new() };
        let mut sums = BTreeMap::<&str, i64>::new();
        for sample in &self.profile.sample {
            let leaf = self.functions(sample).first().copied().unwrap_or("(no name)");
            *sums.entry(leaf).or_default() += sample.value.get(column).copied().unwrap_or(0);
        }
        let mut rows: Vec<_> = sums.into_iter().collect();
        rows.sort_by_key(|&(_, sum)| std::cmp::Reverse(sum));
        let row = |(name, sum): &(&str, i64)| format!("    {sum:>14} {name}");
        rows.iter().take(12).map(row).collect::<Vec<_>>().join("\n")
    }
}

/// The entry with this id: the validator has made sure that ids count from 1.
fn entry<T>(table: &[T], id: u64) -> Option<&T> {
    table.get(usize::try_from(id).ok()?.checked_sub(1)?)
}
