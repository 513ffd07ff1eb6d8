//! Bandwidths: memory read and copied, files read from disk, each by one alone and by several at once.

use super::cache::{drop_file, read_so_far, was_cold};
use crate::ui::Ui;
use anyhow::{Context, Result};
use coldframe_backbone::kernels::peaks;
use coldframe_simulator::calibrate::Bandwidths;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

/// Files read at once from disk; arbitrary, what a few loads at once are.
const READERS: usize = 4;
/// Bytes of a file that is read from disk.
const FILE_BYTES: usize = 128 << 20;
/// Bytes copied in memory by each thread: more than caches hold.
const COPY_BYTES: usize = 192 << 20;
const RUNS: usize = 3;

/// Measures all of them.
pub fn measure(scratch: &Path, threads: usize, quick: bool, ui: &Ui) -> Result<Bandwidths> {
    let memory_alone = peaks::peaks().read;
    ui.check()?;
    let memory_contended = together(threads, || peaks::peaks().read);
    ui.check()?;
    let (copy_alone, copy_contended) = (together(1, copy), together(threads, copy));
    ui.check()?;
    let bytes = if quick { FILE_BYTES / 4 } else { FILE_BYTES };
    let paths = (0..READERS).map(|n| written(scratch, n, bytes)).collect::<Result<Vec<_>>>()?;
    let disk_alone = from_disk(&paths[..1], bytes)?;
    let disk_contended = from_disk(&paths, bytes)?;
    paths.iter().try_for_each(std::fs::remove_file).context("cannot remove the files measured with")?;
    let whole = |rate: f64| rate as u64;
    Ok(Bandwidths {
        disk_alone: disk_alone.map(whole),
        disk_contended: disk_contended.map(whole),
        memory_alone: whole(memory_alone),
        memory_contended: whole(memory_contended),
        copy_alone: whole(copy_alone),
        copy_contended: whole(copy_contended),
    })
}

/// The sum of what `work` tells when so many threads do it at once.
fn together(threads: usize, work: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(&work)).collect();
        all.into_iter().map(|thread| thread.join().expect("a measuring thread does not panic")).sum()
    })
}

/// Bytes a second of a copy, best of a few.
fn copy() -> f64 {
    let (from, mut to) = (vec![1u8; COPY_BYTES], vec![0u8; COPY_BYTES]);
    let one = |_| {
        let start = Instant::now();
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        COPY_BYTES as f64 / start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(one).fold(0.0, f64::max)
}

/// A file of bytes that no file system can leave out.
fn written(scratch: &Path, n: usize, bytes: usize) -> Result<PathBuf> {
    let path = scratch.join(format!("read-{n}"));
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut state = n as u64 + 1;
    let mut block = vec![0u8; 1 << 20];
    for _ in 0..bytes / block.len() {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).with_context(|| format!("cannot write {}", path.display()))?;
    }
    file.sync_all()?;
    Ok(path)
}

/// Bytes a second of all files read at once; `None` where they did not come from the disk.
fn from_disk(paths: &[PathBuf], bytes: usize) -> Result<Option<f64>> {
    paths.iter().try_for_each(|path| drop_file(path))?;
    let before = read_so_far();
    let barrier = Barrier::new(paths.len());
    let read = |path: &PathBuf| -> std::io::Result<f64> {
        let (mut file, mut block) = (File::open(path)?, vec![0u8; 1 << 20]);
        barrier.wait();
        let start = Instant::now();
        while file.read(&mut block)? > 0 {}
        Ok(start.elapsed().as_secs_f64())
    };
    let read = &read;
    let slowest = std::thread::scope(|scope| {
        let all: Vec<_> = paths.iter().map(|path| scope.spawn(move || read(path))).collect();
        let times = all.into_iter().map(|thread| thread.join().expect("a reader does not panic"));
        times.collect::<std::io::Result<Vec<f64>>>()
    })?
    .into_iter()
    .fold(0.0, f64::max);
    let all = (bytes * paths.len()) as u64;
    Ok(was_cold(before, read_so_far(), all).then_some(all as f64 / slowest.max(1e-9)))
}
