//! What the functions of the control plane share.
