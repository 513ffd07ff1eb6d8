//! Aliases: names that point at generations, by weight; moving one is how a function is replaced, split and rolled back.

use super::action::{AliasSpec, At, RollbackSpec};
use super::error::{AdminError, Kind, Result};
use super::functions::{LIVE, generation_of};
use super::reply::Done;
use super::{Admin, Principal, Terms, names};
use crate::records::{Function, Target};

/// Aliases of a function: arbitrary.
const ALIASES_MAX: usize = 64;
/// Targets of an alias: arbitrary.
const TARGETS_MAX: usize = 16;
/// Largest weight: finer shares than one in ten thousand serve nobody.
const WEIGHT_MAX: u32 = 10_000;

impl Admin {
    pub(super) async fn put_alias(
        &self,
        who: &Principal,
        at: &At,
        alias: &str,
        spec: AliasSpec,
        terms: &Terms,
    ) -> Result<Done> {
        names::alias(alias)?;
        check_targets(&spec.targets)?;
        self.edit(who, at, terms, |function| {
            for target in &spec.targets {
                generation_of(function, &target.generation)?;
            }
            if !function.aliases.contains_key(alias) && function.aliases.len() >= ALIASES_MAX {
                let problem = format!("a function has at most {ALIASES_MAX} aliases");
                return Err(AdminError::new(Kind::Quota, "lora_alias_limit_exceeded", problem));
            }
            function.aliases.insert(alias.to_owned(), spec.targets.clone());
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_alias(
        &self,
        who: &Principal,
        at: &At,
        alias: &str,
        terms: &Terms,
    ) -> Result<Done> {
        if alias == LIVE {
            let problem = "`live` is what the bare name means: point it elsewhere, or remove the function";
            return Err(AdminError::invalid("alias", problem));
        }
        self.edit(who, at, terms, |function| {
            function.aliases.remove(alias).map(drop).ok_or_else(|| AdminError::absent("alias"))
        })
        .await
    }

    pub(super) async fn rollback(
        &self,
        who: &Principal,
        at: &At,
        spec: RollbackSpec,
        terms: &Terms,
    ) -> Result<Done> {
        let alias = spec.alias.as_deref().unwrap_or(LIVE);
        self.edit(who, at, terms, |function| {
            let to = match &spec.to {
                Some(to) => generation_of(function, to)?.id.clone(),
                None => before(function, alias)?,
            };
            function.aliases.insert(alias.to_owned(), vec![Target { generation: to, weight: 1 }]);
            Ok(())
        })
        .await
    }
}

/// The generation that was deployed before the newest one that the alias points at.
fn before(function: &Function, alias: &str) -> Result<String> {
    let targets = function.aliases.get(alias).ok_or_else(|| AdminError::absent("alias"))?;
    let places = targets.iter().filter_map(|target| {
        function.generations.iter().position(|generation| generation.id == target.generation)
    });
    let newest = places.max().unwrap_or(0);
    let earlier = newest.checked_sub(1).and_then(|place| function.generations.get(place));
    earlier.map(|generation| generation.id.clone()).ok_or_else(|| {
        AdminError::new(Kind::Conflict, "nothing_before", "there is no generation before this one")
    })
}

fn check_targets(targets: &[Target]) -> Result<()> {
    if targets.is_empty() || targets.len() > TARGETS_MAX {
        return Err(AdminError::invalid("targets", format!("give 1 to {TARGETS_MAX} targets")));
    }
    if let Some(wrong) = targets.iter().find(|target| !(1..=WEIGHT_MAX).contains(&target.weight)) {
        let problem = format!("a weight is 1 to {WEIGHT_MAX}, not {}", wrong.weight);
        return Err(AdminError::invalid("targets.weight", problem));
    }
    let twice = targets.iter().enumerate().any(|(place, target)| {
        targets[..place].iter().any(|earlier| earlier.generation == target.generation)
    });
    if twice {
        return Err(AdminError::invalid(
            "targets.generation",
            "a generation stands there twice: add the weights",
        ));
    }
    Ok(())
}
