//! Profile: pprof and folded files of named cuts.
