//! {{name}}: answers as its adapter does, streamed.

use coldframe_function::{Failure, Request, Task, export, log};

fn handle(request: Request) -> Result<(), Failure> {
    let end = Task::of(&request).start().forward()?;
    log::write(log::Level::Info, &format!("{} tokens", end.completion_tokens));
    Ok(())
}

export!(handle);
