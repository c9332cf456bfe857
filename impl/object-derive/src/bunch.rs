//! The code of `Bunch`.

use proc_macro2::TokenStream;
use quote::quote;

use crate::model::{FieldModel, Model};

pub(crate) fn expand(Model { name, fields, .. }: &Model) -> TokenStream {
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let names = fields.iter().map(|field| field.ident.to_string());
    let defaults = fields.iter().map(|FieldModel { of, default, .. }| match default {
        Some(default) => quote! { #default },
        None => quote! { <#of as ::core::default::Default>::default() },
    });
    let text = name.to_string();
    quote! {
        impl ::core::default::Default for #name {
            fn default() -> Self {
                Self { #(#idents: #defaults),* }
            }
        }

        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                let default = <Self as ::core::default::Default>::default();
                let mut shown = f.debug_struct(#text);
                #(if self.#idents != default.#idents { shown.field(#names, &self.#idents); })*
                shown.finish()
            }
        }
    }
}
