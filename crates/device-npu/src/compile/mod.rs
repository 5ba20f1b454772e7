//! Compiling beside the program, and keeping what was compiled.
