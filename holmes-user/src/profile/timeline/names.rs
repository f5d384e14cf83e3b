//! How the threads, places and states of a timeline are called, in both formats alike.
//!
//! Must not: hand on a name as a target chose it: control characters stay out.

use std::borrow::Cow;

use super::super::function::{NO_STACK, base_name, clean, module_and_offset, with_module};
use super::super::mappings::KERNEL;
use super::super::shown::shown_frames;
use crate::collect::WaitCause;
use crate::symbolize::{Frame, Place, SymbolTable};
use crate::window::{CutSample, Owner, RunSample, Span, State, Timeline, WaitSpan};

/// Functions of a stack that its text names: what fits beside a picture. Perfetto has them all besides.
const MAX_TEXT_FUNCTIONS: usize = 32;

/// What stands between functions in such a text: in no name, see [`clean`].
const SEPARATOR: &str = "; ";

/// A function of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    pub(super) name: String,
    /// The file that it is in.
    pub(super) file: String,
}

/// A place by name.
#[derive(Clone, Debug)]
pub(super) struct PlaceNames {
    /// Leaf first; at least one.
    pub(super) functions: Vec<Function>,
    /// The innermost one of the program's own file: not of its libraries, nor the kernel's.
    pub(super) own: String,
    /// The functions as a text, leaf first.
    pub(super) stack: String,
    /// Whether the leaf is the kernel's.
    pub(super) in_kernel: bool,
}

/// The names of a timeline.
pub(super) struct Names {
    places: Vec<PlaceNames>,
}

/// What is told of a span or of a sample beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail<'a> {
    Text(&'a str),
    Number(u64),
    Address(u64),
    True,
}

/// A span or a sample as it is shown.
pub(super) struct Shown<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) category: &'static str,
    /// The place that it is in, if it is in one.
    pub(super) place: Option<usize>,
    /// By name, in a fixed order.
    pub(super) details: Vec<(&'static str, Detail<'a>)>,
}

impl Names {
    pub(super) fn of(timeline: &Timeline, symbols: &SymbolTable) -> Self {
        let places = timeline.places.samples.iter();
        Self { places: places.map(|sample| PlaceNames::of(sample, symbols)).collect() }
    }

    /// The names of every place, in their order.
    pub(super) fn places(&self) -> &[PlaceNames] {
        &self.places
    }

    /// How a span is shown.
    pub(super) fn span(&self, span: &Span) -> Shown<'_> {
        let plain = |name: &'static str, category, detail| Shown {
            name: name.into(),
            category,
            place: None,
            details: vec![detail],
        };
        match span.state {
            State::Running { cpu } => plain("running", "run", ("cpu", Detail::Number(cpu.into()))),
            State::Unknown(doubt) => {
                plain("unknown", "unknown", ("why", Detail::Text(doubt.text())))
            }
            State::Waiting(wait) => self.wait(wait),
        }
    }

    fn wait(&self, wait: WaitSpan) -> Shown<'_> {
        let cause = wait.cause.label();
        let mut details = vec![("cause", Detail::Text(cause))];
        if wait.lock != 0 {
            details.push(("lock", Detail::Address(wait.lock)));
        }
        if wait.holder != 0 {
            details.push(("holder", Detail::Number(wait.holder.into())));
        }
        if wait.waits > 1 {
            details.push(("stands_for", Detail::Number(wait.waits)));
        }
        if wait.goes_on {
            details.push(("goes_on", Detail::True));
        }
        let place = self.places.get(wait.place);
        details.extend(place.into_iter().flat_map(PlaceNames::details));
        // Where a thread was preempted says nothing of what it waits for.
        let own = place.filter(|_| wait.cause != WaitCause::RunQueue).map(|place| &place.own);
        let name = match own {
            Some(own) => format!("{cause} in {own}").into(),
            None => cause.into(),
        };
        Shown { name, category: "wait", place: place.map(|_| wait.place), details }
    }

    /// How a sample is shown.
    pub(super) fn sample(&self, sample: &RunSample) -> Shown<'_> {
        let mut details = vec![("cpu", Detail::Number(sample.cpu.into()))];
        let place = self.places.get(sample.place);
        details.extend(place.into_iter().flat_map(PlaceNames::details));
        let leaf = place.and_then(|place| place.functions.first());
        let name = leaf.map_or(NO_STACK, |function| &function.name).into();
        Shown { name, category: "sample", place: place.map(|_| sample.place), details }
    }
}

impl PlaceNames {
    fn of(sample: &CutSample, symbols: &SymbolTable) -> Self {
        let exe = sample.owner.image.as_ref().map(|image| image.exe.as_str());
        let mut functions = Vec::new();
        let (mut own, mut of_user) = (None, None);
        let mut in_kernel = None;
        for frame in shown_frames(sample, symbols) {
            let is_kernel = matches!(frame.place, Place::Kernel(_));
            in_kernel.get_or_insert(is_kernel);
            let first = functions.len();
            push_functions(&frame, symbols, &mut functions);
            if !is_kernel {
                of_user.get_or_insert(first);
                if frame.object.is_some_and(|object| Some(object.path.as_str()) == exe) {
                    own.get_or_insert(first);
                }
            }
        }
        if functions.is_empty() {
            functions.push(Function { name: NO_STACK.to_owned(), file: String::new() });
        }
        let own = functions.get(own.or(of_user).unwrap_or(0)).map(|function| function.name.clone());
        let shown =
            functions.iter().take(MAX_TEXT_FUNCTIONS).map(|function| function.name.as_str());
        let mut stack = shown.collect::<Vec<_>>().join(SEPARATOR);
        if functions.len() > MAX_TEXT_FUNCTIONS {
            stack.push_str(SEPARATOR);
            stack.push_str("...");
        }
        let in_kernel = in_kernel.unwrap_or(false);
        Self { functions, own: own.unwrap_or_default(), stack, in_kernel }
    }

    fn details(&self) -> [(&'static str, Detail<'_>); 2] {
        [("function", Detail::Text(&self.own)), ("stack", Detail::Text(&self.stack))]
    }
}

/// The functions of one frame, innermost first.
fn push_functions(frame: &Frame<'_>, symbols: &SymbolTable, out: &mut Vec<Function>) {
    let file = match (frame.place, frame.object) {
        (Place::Kernel(_), _) => KERNEL.to_owned(),
        (_, Some(object)) => clean(&object.path),
        (_, None) => String::new(),
    };
    match symbols.get(frame.place).filter(|named| !named.lines.is_empty()) {
        Some(named) => out.extend(named.lines.iter().map(|line| Function {
            name: clean(&with_module(&line.function, named)),
            file: file.clone(),
        })),
        None => out.push(Function { name: clean(&module_and_offset(frame)), file }),
    }
}

/// A process: its program, or if that is not known the name of the thread that is asked about.
pub(super) fn process(owner: &Owner) -> String {
    match &owner.image {
        Some(image) if !image.exe.is_empty() => clean(base_name(&image.exe)),
        _ => thread(owner),
    }
}

/// A thread.
pub(super) fn thread(owner: &Owner) -> String {
    clean(&owner.comm.text())
}
