//! The code of `Persistent`.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, Ident, Result};

use crate::model::{FieldModel, Model};

pub(crate) fn expand(model: &Model) -> Result<TokenStream> {
    let Model { name, class, finalizer, defaults, fields } = model;
    let (module, class) = class
        .as_ref()
        .ok_or_else(|| Error::new(name.span(), "name the class of Python: #[persistent(class = \"module.Class\")]"))?;
    let root = root(name)?;
    let finalizer = finalizer.as_ref().map(|path| {
        quote! {
            const FINALIZER: ::core::option::Option<#root::Finalizer<Self>> =
                ::core::option::Option::Some(#path);
        }
    });
    let default = defaults.then(|| quote! { let default = <Self as ::core::default::Default>::default(); });
    let loads = fields.iter().map(|field| load(field, &root, *defaults));
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let locals: Vec<_> = fields.iter().map(local).collect();
    let names: Vec<_> = fields.iter().map(|field| &field.name).collect();
    let types: Vec<_> = fields.iter().map(|field| &field.of).collect();
    let absents: Vec<_> = fields.iter().map(|field| absent(field, &root, *defaults)).collect();
    let saves = fields.iter().map(|field| save(field, &root, *defaults));
    let writes = fields.iter().map(|field| write(field, *defaults));
    Ok(quote! {
        impl #root::Persistent for #name {
            const CLASS: (&'static str, &'static str) = (#module, #class);
            #finalizer

            fn load(
                record: #root::Record,
            ) -> ::core::result::Result<(Self, ::core::option::Option<::std::boxed::Box<#root::Kept>>), #root::Trouble>
            {
                let #root::Attributes { mut named, mut kept } =
                    #root::attributes_of(record, Self::CLASS)?;
                #default
                #(#loads)*
                kept.attributes = named.rest();
                ::core::result::Result::Ok((Self { #(#idents: #locals),* }, kept.boxed()))
            }

            fn read(
                reader: &mut #root::Reader<'_>,
            ) -> ::core::result::Result<(Self, ::core::option::Option<::std::boxed::Box<#root::Kept>>), #root::Trouble>
            {
                let ::core::option::Option::Some(attributes) = reader.attributes(Self::CLASS) else {
                    return Self::load(reader.record()?);
                };
                #(let mut #locals: ::core::option::Option<#types> = ::core::option::Option::None;)*
                let mut rest = ::std::vec::Vec::new();
                for (name, part) in attributes {
                    match name {
                        // Of an attribute that is written twice, the last one counts. If one is of another type, the
                        // record is read as values, to find out whether it counts.
                        #(#names => match reader.field::<#types>(#names, part) {
                            ::core::result::Result::Ok(value) => #locals = ::core::option::Option::Some(value),
                            ::core::result::Result::Err(_) => return Self::load(reader.record()?),
                        },)*
                        other => rest.push((#root::Value::text(other), reader.value(part)?)),
                    }
                }
                #default
                #(
                    let #locals = match #locals {
                        ::core::option::Option::Some(value) => value,
                        ::core::option::Option::None => #absents,
                    };
                )*
                rest.shrink_to_fit();
                let kept = #root::Kept { class: ::core::option::Option::None, attributes: rest, protocol: 3 };
                ::core::result::Result::Ok((Self { #(#idents: #locals),* }, kept.boxed()))
            }

            fn save(&self, kept: ::core::option::Option<&#root::Kept>) -> #root::Record {
                #default
                let mut attributes = ::std::vec::Vec::new();
                #(#saves)*
                #root::record_of(Self::CLASS, attributes, kept)
            }

            fn write(
                &self,
                kept: ::core::option::Option<&#root::Kept>,
                writer: &mut #root::Writer<'_>,
            ) -> ::core::result::Result<(), #root::Trouble> {
                #default
                writer.attributes(Self::CLASS, kept, |writer| {
                    #(#writes)*
                    ::core::result::Result::Ok(())
                })
            }

            fn trace(&self, visit: &mut dyn ::core::ops::FnMut(&#root::RawRef)) {
                #(#root::Field::trace(&self.#idents, &mut *visit);)*
            }

            fn bytes(&self) -> usize {
                0 #(+ #root::Field::bytes(&self.#idents))*
            }
        }
    })
}

/// The variable for a field: none of the other variables begins in this way, whatever the field is named.
fn local(field: &FieldModel) -> Ident {
    format_ident!("field_{}", field.ident)
}

/// The value of a field whose attribute is not there.
fn absent(FieldModel { ident, of, name, .. }: &FieldModel, root: &TokenStream, defaults: bool) -> TokenStream {
    if defaults {
        quote! { default.#ident }
    } else {
        quote! { #root::absent::<#of>(#name)? }
    }
}

fn load(field: &FieldModel, root: &TokenStream, defaults: bool) -> TokenStream {
    let FieldModel { of, name, .. } = field;
    let local = local(field);
    let absent = absent(field, root, defaults);
    quote! {
        let #local = match named.take(#name) {
            ::core::option::Option::Some(value) => #root::present::<#of>(#name, value)?,
            ::core::option::Option::None => #absent,
        };
    }
}

fn save(FieldModel { ident, name, .. }: &FieldModel, root: &TokenStream, defaults: bool) -> TokenStream {
    let push = quote! { attributes.push((#name, #root::Field::to_value(&self.#ident))); };
    if defaults {
        quote! { if self.#ident != default.#ident { #push } }
    } else {
        push
    }
}

fn write(FieldModel { ident, name, .. }: &FieldModel, defaults: bool) -> TokenStream {
    let write = quote! { writer.attribute(#name, &self.#ident)?; };
    if defaults {
        quote! { if self.#ident != default.#ident { #write } }
    } else {
        write
    }
}

/// The path of `vellum-object` in the program: it depends on that crate, or on `vellum`, which has it as `object`.
fn root(at: &Ident) -> Result<TokenStream> {
    let path = |found: FoundCrate, itself: &str| match found {
        FoundCrate::Itself => format_ident!("{itself}"),
        FoundCrate::Name(name) => format_ident!("{name}"),
    };
    if let Ok(found) = crate_name("vellum-object") {
        let name = path(found, "vellum_object");
        return Ok(quote! { ::#name });
    }
    let found = crate_name("vellum");
    let found = found.map_err(|_| Error::new(at.span(), "the program needs `vellum` with the feature `object`"))?;
    let name = path(found, "vellum");
    Ok(quote! { ::#name::object })
}
