//! The code of `Persistent`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Result};

use crate::model::{FieldModel, Model};

pub(crate) fn expand(model: &Model) -> Result<TokenStream> {
    let Model { name, class, finalizer, defaults, fields } = model;
    let (module, class) = class
        .as_ref()
        .ok_or_else(|| Error::new(name.span(), "name the class of Python: #[persistent(class = \"module.Class\")]"))?;
    let finalizer = finalizer.as_ref().map(|path| {
        quote! {
            const FINALIZER: ::core::option::Option<::vellum_object::Finalizer<Self>> =
                ::core::option::Option::Some(#path);
        }
    });
    let default = defaults.then(|| quote! { let default = <Self as ::core::default::Default>::default(); });
    let loads = fields.iter().map(|field| load(field, *defaults));
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let saves = fields.iter().map(|field| save(field, *defaults));
    Ok(quote! {
        impl ::vellum_object::Persistent for #name {
            const CLASS: (&'static str, &'static str) = (#module, #class);
            #finalizer

            fn load(
                record: ::vellum_object::Record,
            ) -> ::core::result::Result<(Self, ::core::option::Option<::std::boxed::Box<::vellum_object::Kept>>), ::vellum_object::Trouble>
            {
                let ::vellum_object::Attributes { mut named, mut kept } =
                    ::vellum_object::attributes_of(record, Self::CLASS)?;
                #default
                #(#loads)*
                kept.attributes = named.rest();
                ::core::result::Result::Ok((Self { #(#idents),* }, kept.boxed()))
            }

            fn save(&self, kept: ::core::option::Option<&::vellum_object::Kept>) -> ::vellum_object::Record {
                #default
                let mut attributes = ::std::vec::Vec::new();
                #(#saves)*
                ::vellum_object::record_of(Self::CLASS, attributes, kept)
            }

            fn trace(&self, visit: &mut dyn ::core::ops::FnMut(&::vellum_object::RawRef)) {
                #(::vellum_object::Field::trace(&self.#idents, &mut *visit);)*
            }

            fn bytes(&self) -> usize {
                0 #(+ ::vellum_object::Field::bytes(&self.#idents))*
            }
        }
    })
}

fn load(FieldModel { ident, of, name, .. }: &FieldModel, defaults: bool) -> TokenStream {
    let absent = if defaults {
        quote! { default.#ident }
    } else {
        quote! { ::vellum_object::absent::<#of>(#name)? }
    };
    quote! {
        let #ident = match named.take(#name) {
            ::core::option::Option::Some(value) => ::vellum_object::present::<#of>(#name, value)?,
            ::core::option::Option::None => #absent,
        };
    }
}

fn save(FieldModel { ident, name, .. }: &FieldModel, defaults: bool) -> TokenStream {
    let push = quote! { attributes.push((#name, ::vellum_object::Field::to_value(&self.#ident))); };
    if defaults {
        quote! { if self.#ident != default.#ident { #push } }
    } else {
        push
    }
}
