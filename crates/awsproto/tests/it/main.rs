//! What operations and clients see of the protocols.

mod shapes;
