//! A struct, with the attributes of both derives.

use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, Fields, Ident, LitStr, Path, Result, Type};

/// A struct with named fields.
pub(crate) struct Model {
    pub name: Ident,
    /// The module and the name of the class.
    pub class: Option<(String, String)>,
    pub finalizer: Option<Path>,
    /// Whether fields that equal their defaults are not stored.
    pub defaults: bool,
    pub fields: Vec<FieldModel>,
}

/// One of its fields.
pub(crate) struct FieldModel {
    pub ident: Ident,
    pub of: Type,
    /// The name of the attribute.
    pub name: String,
    pub default: Option<Expr>,
}

impl Model {
    pub(crate) fn of(input: &DeriveInput) -> Result<Model> {
        if !input.generics.params.is_empty() {
            return Err(Error::new(
                input.generics.span(),
                "a persistent struct has no parameters: one class is one type",
            ));
        }
        let Data::Struct(data) = &input.data else {
            return Err(Error::new(input.ident.span(), "only a struct can be the state of an object"));
        };
        let Fields::Named(named) = &data.fields else {
            return Err(Error::new(input.ident.span(), "the fields need names, which are those of the attributes"));
        };
        let mut model =
            Model { name: input.ident.clone(), class: None, finalizer: None, defaults: false, fields: Vec::new() };
        for attribute in of_name(&input.attrs, "persistent") {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("class") {
                    let text: LitStr = meta.value()?.parse()?;
                    let dotted = text.value();
                    let (module, name) = dotted
                        .rsplit_once('.')
                        .filter(|(module, name)| !module.is_empty() && !name.is_empty())
                        .ok_or_else(|| Error::new(text.span(), "a class is named `module.Class`"))?;
                    model.class = Some((module.to_owned(), name.to_owned()));
                    Ok(())
                } else if meta.path.is_ident("finalizer") {
                    model.finalizer = Some(meta.value()?.parse()?);
                    Ok(())
                } else if meta.path.is_ident("defaults") {
                    model.defaults = true;
                    Ok(())
                } else {
                    Err(meta.error("expected `class = \"module.Class\"`, `finalizer = function` or `defaults`"))
                }
            })?;
        }
        for field in &named.named {
            model.fields.push(FieldModel::of(field)?);
        }
        Ok(model)
    }
}

impl FieldModel {
    fn of(field: &syn::Field) -> Result<FieldModel> {
        let ident = field.ident.clone().ok_or_else(|| Error::new(field.span(), "a field needs a name"))?;
        let name = ident.to_string().trim_start_matches("r#").to_owned();
        let mut model = FieldModel { ident, of: field.ty.clone(), name, default: None };
        for attribute in of_name(&field.attrs, "persistent") {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    model.name = meta.value()?.parse::<LitStr>()?.value();
                    Ok(())
                } else {
                    Err(meta.error("expected `name = \"attribute\"`"))
                }
            })?;
        }
        for attribute in of_name(&field.attrs, "bunch") {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("default") {
                    model.default = Some(meta.value()?.parse()?);
                    Ok(())
                } else {
                    Err(meta.error("expected `default = expression`"))
                }
            })?;
        }
        Ok(model)
    }
}

fn of_name<'a>(attributes: &'a [Attribute], name: &'a str) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |attribute| attribute.path().is_ident(name))
}
