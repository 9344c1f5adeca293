//! Bars, validation, features, windows, labels and splits: pure code shared by training and serving.
