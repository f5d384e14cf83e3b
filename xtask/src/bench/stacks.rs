//! Sampled stacks as lists of names: how many are whole, and how many of their frames have a name.
//!
//! Reads folded stacks, one line for each: `comm;root;...;leaf count`. A kernel frame ends in
//! `_[k]`; a frame without a name is `module+0xoffset`.
//!
//! Must not: know which program took them, beyond that form.

/// What begins a thread of execution. A stack whose outermost user frame is one of these is whole.
const OUTERMOST: [&str; 14] = [
    // The first function of a program, and what libc calls main from, with and without its own.
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "__libc_start_main_impl",
    // A thread's beginning.
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "start_thread",
    // A goroutine's, and those of Go's own threads.
    "runtime.goexit",
    "runtime.mstart",
    "runtime.rt0_go",
    "_rt0_amd64",
    "_rt0_amd64_linux",
];

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, or what stands for it.
    pub text: String,
    /// Whether it has a name.
    pub named: bool,
    /// Whether it is the kernel's.
    pub kernel: bool,
}

/// A stack, outermost frame first, and how often it was sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its frames.
    pub frames: Vec<Frame>,
    /// Its samples.
    pub count: u64,
}

impl Stack {
    fn user(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|frame| !frame.kernel)
    }

    /// Whether the user's part reaches the outermost frame. `entry` is how a frame in the program's
    /// entry is shown where the program has no symbols.
    fn is_whole(&self, entry: &dyn Fn(&str) -> bool) -> bool {
        self.user().next().is_some_and(|frame| is_outermost(&frame.text) || entry(&frame.text))
    }
}

/// Shares of a set of stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Samples.
    pub samples: u64,
    /// Percent of them whose user stack is whole.
    pub whole: f64,
    /// Percent of the user frames that have a name.
    pub named: f64,
    /// User frames of a sample, on average.
    pub frames: f64,
}

/// The one place where whole stacks are counted. `entry` as for a stripped program; see
/// [`super::entry`].
pub fn shares(stacks: &[Stack], entry: &dyn Fn(&str) -> bool) -> Shares {
    let (mut samples, mut whole, mut frames, mut named) = (0, 0, 0, 0);
    for stack in stacks {
        samples += stack.count;
        whole += if stack.is_whole(entry) { stack.count } else { 0 };
        frames += stack.count * stack.user().count() as u64;
        named += stack.count * stack.user().filter(|frame| frame.named).count() as u64;
    }
    let of = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    Shares {
        samples,
        whole: 100.0 * of(whole, samples),
        named: 100.0 * of(named, frames),
        frames: of(frames, samples),
    }
}

fn is_outermost(name: &str) -> bool {
    // `clone3@@GLIBC_2.34` and `runtime.goexit.abi0` are the same functions.
    let bare = name.split('@').next().unwrap_or(name).trim_end_matches(".abi0");
    OUTERMOST.contains(&bare) || bare.starts_with("runtime.mstart")
}

/// Reads folded stacks. Lines that are none are skipped.
pub fn read_folded(text: &str) -> Vec<Stack> {
    text.lines().filter_map(folded_line).collect()
}

fn folded_line(line: &str) -> Option<Stack> {
    let (stack, count) = line.rsplit_once(' ')?;
    let frames = stack.split(';').skip(1).filter(|text| *text != "[no stack]").map(folded_frame);
    Some(Stack { frames: frames.collect(), count: count.parse().ok()? })
}

fn folded_frame(text: &str) -> Frame {
    let bare = text.strip_suffix("_[k]");
    let (text, kernel) = (bare.unwrap_or(text), bare.is_some());
    Frame { text: text.to_owned(), named: !is_address(text), kernel }
}

/// Whether it is `module+0xoffset` rather than a function.
fn is_address(text: &str) -> bool {
    let offset = text.rsplit_once("+0x").map(|(_, offset)| offset);
    offset.is_some_and(|hex| !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares_of(text: &str) -> Shares {
        shares(&read_folded(text), &|frame| frame == "openssl+0x10")
    }

    #[test]
    fn whole_stacks_begin_where_threads_begin() {
        for outermost in ["_start", "clone3@@GLIBC_2.34", "runtime.goexit.abi0", "openssl+0x10"] {
            let text = format!("x;{outermost};main;work 3\nx;main;work 1\n");
            assert_eq!(shares_of(&text).whole, 75.0, "{outermost}");
        }
        for inner in ["main", "openssl+0x11", "x::clone", "restart"] {
            assert_eq!(shares_of(&format!("x;{inner};work 1\n")).whole, 0.0, "{inner}");
        }
    }

    #[test]
    fn the_kernels_part_does_not_count() {
        let shares = shares_of("x;_start;main;schedule_[k];[kernel]+0x1_[k] 1\n");
        assert_eq!((shares.whole, shares.named, shares.frames), (100.0, 100.0, 2.0));
        assert_eq!(shares_of("x;clone_[k] 1\n").whole, 0.0);
    }

    #[test]
    fn frames_without_names_and_samples_without_stacks_count() {
        let shares =
            shares_of("x;_start;libc.so.6+0x41f;[unknown]+0x7f00;work 1\nx;[no stack] 1\n");
        assert_eq!((shares.samples, shares.named, shares.whole), (2, 50.0, 50.0));
        assert_eq!(shares_of("").samples, 0);
    }
}
