//! Bodies: whole or failing, at the pace of the origin or of the clients, in bounded memory.

mod bodies;
mod large;
mod shapes;
mod slow;
mod streamed;
