//! Stacks as other profilers print them: `perf script` and bpftrace.
//!
//! Must not: run them.

use super::stacks::{Frame, Stack};

/// Reads `perf script -F comm,ip,sym,dso`: a line with the command, then one for each frame,
/// innermost first, `ADDRESS SYMBOL (FILE)`; an empty line ends the sample.
pub fn read_perf_script(text: &str) -> Vec<Stack> {
    let mut stacks = Vec::new();
    for sample in text.split("\n\n") {
        let lines: Vec<&str> = sample.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            continue;
        }
        let indented = lines.iter().filter(|line| line.starts_with(char::is_whitespace));
        let mut frames: Vec<Frame> = indented.filter_map(|line| perf_frame(line)).collect();
        frames.reverse();
        stacks.push(Stack { frames, count: 1 });
    }
    stacks
}

fn perf_frame(line: &str) -> Option<Frame> {
    let (_address, rest) = line.trim().split_once(' ')?;
    let (symbol, file) = rest.rsplit_once(" (")?;
    let file = file.trim_end_matches(')');
    // Kernel, modules and BPF programs stand in brackets; so do the vDSO and anonymous memory.
    let in_user = ["[vdso]", "[vsyscall]", "[unknown]", "[heap]", "[stack]"].contains(&file);
    Some(Frame {
        text: symbol.to_owned(),
        named: symbol != "[unknown]",
        kernel: file.starts_with('[') && !in_user,
    })
}

/// Reads what bpftrace prints of `@[ustack] = count()`: `@[`, one line for each frame, innermost
/// first, `]: COUNT`.
pub fn read_bpftrace(text: &str) -> Vec<Stack> {
    let mut stacks = Vec::new();
    let mut open: Option<Vec<Frame>> = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with("@[") {
            open = Some(Vec::new());
            // A stack without frames is closed on the same line.
        }
        if let Some(count) =
            line.rsplit_once("]: ").map(|(_, count)| count).or(line.strip_prefix("]: "))
            && let (Some(mut frames), Ok(count)) = (open.take(), count.parse())
        {
            frames.reverse();
            stacks.push(Stack { frames, count });
        } else if let Some(frames) = open.as_mut().filter(|_| line != "@[" && !line.is_empty()) {
            frames.push(bpftrace_frame(line));
        }
    }
    stacks
}

/// `symbol+decimal offset`, or an address.
fn bpftrace_frame(line: &str) -> Frame {
    let named = !line.starts_with("0x");
    let symbol = line.rsplit_once('+').map_or(line, |(symbol, _)| symbol);
    Frame { text: symbol.to_owned(), named, kernel: false }
}

#[cfg(test)]
mod tests {
    use super::super::stacks::shares;
    use super::*;

    #[test]
    fn perf_prints_the_innermost_frame_first() {
        let text = "depth \n\t    5581 burn (/tmp/depth)\n\t    5590 main (/tmp/depth)\n\
                    \t    7f01 __libc_start_call_main (/usr/lib/libc.so.6)\n\n\
                    two words \n\tffffffff81 do_syscall_64 ([kernel.kallsyms])\n\
                    \t    7f02 [unknown] (/usr/lib/libc.so.6)\n\t 0 [unknown] ([unknown])\n\n";
        let stacks = read_perf_script(text);
        assert_eq!(stacks.len(), 2);
        let names: Vec<&str> = stacks[0].frames.iter().map(|frame| frame.text.as_str()).collect();
        assert_eq!(names, ["__libc_start_call_main", "main", "burn"]);
        assert!(stacks[1].frames[2].kernel && !stacks[1].frames[1].kernel);
        let shares = shares(&stacks, &|_| false);
        assert_eq!((shares.samples, shares.whole, shares.named), (2, 50.0, 60.0));
    }

    #[test]
    fn bpftrace_prints_maps() {
        let text = "Attaching 1 probe...\n\n\n@[\n    burn+12\n    main+30\n    \
                    __libc_start_call_main+122\n]: 7\n@[\n    0x7f001234\n]: 3\n@[]: 2\n";
        let stacks = read_bpftrace(text);
        let shares = shares(&stacks, &|_| false);
        assert_eq!((shares.samples, shares.whole), (12, 700.0 / 12.0));
        assert_eq!(stacks[0].frames[0].text, "__libc_start_call_main");
        assert!(!stacks[1].frames[0].named);
        assert!(stacks[2].frames.is_empty());
    }
}
