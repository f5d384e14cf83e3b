//! Files that lie, are huge, or end the process that reads them: one file's debug information is
//! what it costs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::command::recorder_binary;
use holmes_tests::named_file::{Answers, NamedFile, compile, patient_symbolizer, tool};
use holmes_user::binary::{Bytes, Elf};
use holmes_user::symbolize::{DebugSkipped, NamedBy, Symbolizer};

const FUNCTION: &str = "second_caller";

/// `inlined.c`, an address in it, and its section headers' table to change.
struct Victim {
    folder: tempfile::TempDir,
    path: PathBuf,
    address: u64,
}

impl Victim {
    fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = compile("inlined.c", &folder.path().join("victim"))?;
        let text = tool("nm", [&path])?;
        let line = text.lines().find(|line| line.ends_with(&format!(" {FUNCTION}")));
        let address = line.and_then(|line| line.split(' ').next()).context("no such function")?;
        Ok(Self { address: u64::from_str_radix(address, 16)?, folder, path })
    }

    fn name(&self, symbolizer: &mut Symbolizer) -> anyhow::Result<Answers> {
        NamedFile::open(&self.path)?.name(symbolizer, &[self.address])
    }

    /// Writes a section's contents behind the file's end, and flags and place into its header.
    fn replace(&self, section: &str, flags: u64, pieces: &[(&[u8], u64)]) -> anyhow::Result<()> {
        let file = File::options().read(true).write(true).open(&self.path)?;
        let elf = Elf::read(Bytes::File(&file))?;
        let old = elf.section(section).context("no such section")?.offset;
        let mut header = vec![0; 64];
        file.read_exact_at(&mut header, 0)?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &b| sum << 8 | u64::from(b));
        let (table, count) = (number(&header[40..48]), number(&header[60..62]));
        let place = file.metadata()?.len().next_multiple_of(16);
        let mut at = place;
        for &(bytes, times) in pieces {
            let many = bytes.repeat((1 << 20) / bytes.len() + 1);
            let end = at + bytes.len() as u64 * times;
            while at < end {
                // A cut at a multiple of the piece's length: what follows goes on with it.
                let length = (many.len() as u64).min(end - at) as usize;
                file.write_all_at(&many[..length], at)?;
                at += length as u64;
            }
        }
        for index in 0..count {
            let entry_at = table + index * 64;
            let mut entry = [0; 64];
            file.read_exact_at(&mut entry, entry_at)?;
            if number(&entry[24..32]) == old && number(&entry[32..40]) > 0 {
                entry[8..16].copy_from_slice(&flags.to_le_bytes());
                entry[24..32].copy_from_slice(&place.to_le_bytes());
                entry[32..40].copy_from_slice(&(at - place).to_le_bytes());
                return Ok(file.write_all_at(&entry, entry_at)?);
            }
        }
        anyhow::bail!("no header of {section}")
    }
}

fn section(path: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    let elf = Elf::read(Bytes::File(&file))?;
    let section = elf.section(name).context("no such section")?;
    Ok(Bytes::File(&file).read(section.offset, section.size as usize)?)
}

/// Named by the symbol table, and the debug information's fate is counted.
fn by_symbols(answers: &Answers, cause: DebugSkipped) -> anyhow::Result<()> {
    let lines = answers.lines.first().context("no answer")?;
    ensure!(lines.len() == 1 && &*lines[0].function == FUNCTION, "{answers:?}");
    ensure!(answers.stats.named(NamedBy::Elf) == 1, "{answers:?}");
    ensure!(answers.stats.debug_skipped(cause) == 1, "{answers:?}");
    Ok(())
}

#[test]
fn a_promise_of_a_terabyte_costs_the_debug_information_only() -> anyhow::Result<()> {
    const COMPRESSED: u64 = 1 << 11;
    let victim = Victim::make()?;
    ensure!(victim.name(&mut patient_symbolizer()?)?.stats.named(NamedBy::Dwarf) == 1);
    let mut bomb = 1u64.to_le_bytes().to_vec();
    bomb.extend((1u64 << 40).to_le_bytes());
    bomb.extend([1, 0, 0, 0, 0, 0, 0, 0, 0x78, 0x9c, 3, 0, 0, 0, 0, 1]);
    victim.replace(".debug_info", COMPRESSED, &[(&bomb, 1)])?;
    // Twice: the child that broke down is replaced.
    let mut symbolizer = patient_symbolizer()?;
    for _ in 0..2 {
        let answers = victim.name(&mut symbolizer)?;
        // Without the right to change its root the child gets a copy, which is measured first.
        let crashed = answers.stats.debug_skipped(DebugSkipped::Crashed) == 1;
        let cause = if crashed { DebugSkipped::Crashed } else { DebugSkipped::Compressed };
        by_symbols(&answers, cause)?;
    }
    Ok(())
}

#[test]
fn much_debug_information_is_left_when_the_time_is_over() -> anyhow::Result<()> {
    let victim = Victim::make()?;
    // The same units again and again, 192 MiB of them; nothing says where in them to look.
    let units = section(&victim.path, ".debug_info")?;
    let times = (192 << 20) / units.len() as u64;
    victim.replace(".debug_info", 0, &[(&units, times)])?;
    tool(
        "objcopy",
        ["--rename-section", ".debug_aranges=.gone", &victim.path.display().to_string()],
    )?;
    let mut symbolizer = Symbolizer::with_budget(Duration::from_secs(2)).worker(recorder_binary()?);
    let answers = victim.name(&mut symbolizer)?;
    let function = answers.lines[0].last().map(|line| &*line.function);
    ensure!(function == Some(FUNCTION), "{answers:?}");
    ensure!(answers.stats.named(NamedBy::Elf) + answers.stats.named(NamedBy::Dwarf) == 1);
    Ok(())
}

#[test]
fn debug_information_that_points_in_circles_ends() -> anyhow::Result<()> {
    let victim = Victim::make()?;
    let units = section(&victim.path, ".debug_info")?;
    // A sweep over what changed bytes can do: references, lengths and forms are among them. The
    // child lives through it or is replaced.
    let mut symbolizer = Symbolizer::with_budget(Duration::from_secs(2)).worker(recorder_binary()?);
    let original = victim.folder.path().join("original");
    fs::copy(&victim.path, &original)?;
    for at in (0..units.len()).step_by(units.len() / 60) {
        let mut changed = units.clone();
        changed[at..].iter_mut().take(3).for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x2d);
        fs::copy(&original, &victim.path)?;
        victim.replace(".debug_info", 0, &[(&changed, 1)])?;
        let answers = victim.name(&mut symbolizer)?;
        ensure!(!answers.lines[0].is_empty(), "byte {at}: {answers:?}");
    }
    Ok(())
}

#[test]
fn links_of_debug_information_lead_nowhere() -> anyhow::Result<()> {
    // `.gnu_debugaltlink` names the program itself, which has what is missing: were it followed,
    // a file that the target chose would be opened.
    let victim = Victim::make()?;
    let link = victim.folder.path().join("altlink");
    let mut section = b"/dev/zero\0".to_vec();
    section.extend([7; 20]);
    fs::write(&link, section)?;
    let option = format!(".gnu_debugaltlink={}", link.display());
    tool("objcopy", ["--add-section", &option, &victim.path.display().to_string()])?;
    let answers = victim.name(&mut patient_symbolizer()?)?;
    ensure!(answers.stats.named(NamedBy::Dwarf) == 1, "{answers:?}");
    Ok(())
}

#[test]
fn without_a_child_names_come_from_the_recorder_itself() -> anyhow::Result<()> {
    let victim = Victim::make()?;
    for program in ["/nothing/there", "/bin/false", "/bin/cat"] {
        let mut symbolizer =
            Symbolizer::with_budget(Duration::from_secs(120)).worker(program.into());
        let answers = victim.name(&mut symbolizer)?;
        ensure!(answers.stats.named(NamedBy::Dwarf) == 1, "{program}: {answers:?}");
    }
    Ok(())
}

#[test]
fn the_child_refuses_to_run_for_anybody_else() -> anyhow::Result<()> {
    let finished = holmes_tests::command::run(["symbolize-worker"])?.expect_code(1)?;
    finished.expect_said(&["for the recorder's own use"])?;
    let help = holmes_tests::command::run(["--help"])?.expect_code(0)?;
    ensure!(!help.text().contains("symbolize-worker"), "it shows in the help");
    Ok(())
}
