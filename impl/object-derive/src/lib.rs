//! The derives of `vellum-object`: a struct as the objects of a Python class, and structs whose fields have defaults.
//!
//! ```text
//!   #[derive(Persistent, Bunch)]
//!   #[persistent(class = "mail.Message", defaults, finalizer = farewell)]
//!   struct Message {
//!       subject: String,                          an attribute of this name
//!       #[persistent(name = "from")]              an attribute of another name
//!       sender: String,
//!       #[bunch(default = 3)]                     of Bunch; not stored if it is equal to this
//!       priority: i64,
//!   }
//! ```
//!
//! `model.rs` reads the struct, `persistent.rs` and `bunch.rs` write the code. The code names everything by its full
//! path, which begins at `vellum-object`, or at `vellum::object` in a program that depends on that.
#![forbid(unsafe_code)]

mod bunch;
mod model;
mod persistent;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct the type of the objects of a Python class: `#[persistent(class = "module.Class")]`.
///
/// Each field is the attribute of its name, or of the one in `#[persistent(name = "...")]`. Its type is a
/// `vellum_object::Field`. `finalizer = path` names a function from `&Ref<Self>` that is the finalizer of the class.
/// With `defaults`, which needs `Default` and fields that can be compared, a field that equals its default is not
/// stored, and an absent attribute is read as the default.
#[proc_macro_derive(Persistent, attributes(persistent, bunch))]
pub fn derive_persistent(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let code = model::Model::of(&input).and_then(|model| persistent::expand(&model));
    code.unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Gives a struct a default for each field, in the manner of Martelli's metaclass for plain records.
///
/// The default of a field is `#[bunch(default = expression)]`, or that of its type. The struct gets `Default`, so that
/// `Message { subject: "hello".into(), ..Message::default() }` takes any fields by name and refuses unknown ones; and
/// `Debug`, which shows only the fields that differ from their defaults, so that its fields must be `PartialEq`.
#[proc_macro_derive(Bunch, attributes(persistent, bunch))]
pub fn derive_bunch(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let code = model::Model::of(&input).map(|model| bunch::expand(&model));
    code.unwrap_or_else(|error| error.to_compile_error()).into()
}
