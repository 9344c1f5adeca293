//! The AWS adapters against an emulator.

mod faults;
mod storage;
