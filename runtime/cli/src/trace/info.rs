//! `trace info`: what a trace looks like.

use super::input::InputArgs;
use crate::ui::Ui;
use clap::Args;

/// Say what a trace looks like
#[derive(Args)]
pub struct InfoArgs {
    #[command(flatten)]
    input: InputArgs,
}

pub fn run(_args: InfoArgs, _ui: &Ui) -> anyhow::Result<()> {
    Ok(())
}
