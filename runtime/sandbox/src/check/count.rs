//! One pass over a component's sections that counts what makes compilers slow, and notes the names at its edge.

use crate::error::Error;
use crate::options::ModuleLimits;
use wasmparser::{BinaryReaderError, ComponentExternalKind, Encoding, Parser, Payload};

/// What the pass found.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) functions: u32,
    pub(super) modules: u32,
    /// Imports of the outermost component.
    pub(super) imports: Vec<String>,
    /// Exports of the outermost component.
    pub(super) exports: Vec<String>,
}

pub(super) fn count(bytes: &[u8], limits: &ModuleLimits) -> Result<Counted, Error> {
    let mut counted = Counted::default();
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding != Encoding::Component {
                    return Err(core_module());
                }
                depth += 1;
                counted.modules += 1;
                within("modules and components", counted.modules, limits.modules)?;
                within("levels of components in components", depth, limits.nesting)?;
            }
            Payload::End(_) => depth -= 1,
            payload => section(&payload, depth, &mut counted, limits)?,
        }
    }
    Ok(counted)
}

fn section(payload: &Payload<'_>, depth: u32, to: &mut Counted, limits: &ModuleLimits) -> Result<(), Error> {
    let items = |what, count| within(what, count, limits.items);
    match payload {
        Payload::FunctionSection(section) => {
            to.functions = to.functions.saturating_add(section.count());
            within("functions", to.functions, limits.functions)
        }
        Payload::CodeSectionEntry(body) => {
            let bytes = body.range().end - body.range().start;
            within("bytes in one function", u32::try_from(bytes).unwrap_or(u32::MAX), fit(limits.body_bytes))
        }
        Payload::ExportSection(section) => within("exports in one module", section.count(), limits.exports),
        Payload::ImportSection(section) => within("imports in one module", section.count(), limits.imports),
        Payload::TypeSection(section) => items("types in one module", section.count()),
        Payload::TableSection(section) => items("tables in one module", section.count()),
        Payload::GlobalSection(section) => items("globals in one module", section.count()),
        Payload::ElementSection(section) => items("element segments in one module", section.count()),
        Payload::DataSection(section) => items("data segments in one module", section.count()),
        Payload::ComponentTypeSection(section) => items("types in one component", section.count()),
        Payload::ComponentCanonicalSection(section) => {
            items("canonical functions in one component", section.count())
        }
        Payload::ComponentAliasSection(section) => items("aliases in one component", section.count()),
        Payload::ComponentInstanceSection(section) => items("instances in one component", section.count()),
        Payload::InstanceSection(section) => items("core instances in one component", section.count()),
        Payload::ComponentImportSection(section) => {
            within("imports in one component", section.count(), limits.imports)?;
            for import in section.clone() {
                let name = import.map_err(invalid)?.name.name.to_owned();
                if depth == 1 {
                    to.imports.push(name);
                }
            }
            Ok(())
        }
        Payload::ComponentExportSection(section) => {
            within("exports in one component", section.count(), limits.exports)?;
            for export in section.clone() {
                let export = export.map_err(invalid)?;
                if depth == 1 && export.kind == ComponentExternalKind::Instance {
                    to.exports.push(export.name.name.to_owned());
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn within(what: &'static str, found: u32, limit: u32) -> Result<(), Error> {
    if found > limit {
        return Err(Error::TooLarge { what, found: found.into(), limit: limit.into() });
    }
    Ok(())
}

fn fit(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn invalid(error: BinaryReaderError) -> Error {
    Error::Invalid(error.to_string())
}

fn core_module() -> Error {
    Error::Invalid(
        "it is a core module, not a component; wrap it with wasm-tools component new, or build for wasm32-wasip2".to_owned(),
    )
}
