//! The objects, against part 7 of the rules and one by one.

mod btree_damage;
mod btrees;
mod collector;
mod connections;
mod identity;
mod leaks;
mod minutes;
mod node;
mod pool;
mod records;
mod stories;
mod structs;
mod writing;
