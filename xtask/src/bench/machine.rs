//! What was measured, on what: the lines above every table.

use std::process::Command;

/// Free memory that is left to other programs while [`touch_memory`] runs.
const MEMORY_LEFT_BYTES: usize = 768 << 20;

/// Describes the machine by class, the tools as given, and the command to repeat the run.
pub(super) fn describe(command: &str, tools: &[String]) -> Result<String, String> {
    let processors = read("/proc/cpuinfo")?;
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = field(&processors, "model name");
    let memory_kib: u64 = field(&read("/proc/meminfo")?, "MemTotal")
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.split(['.', '-']).take(2).collect::<Vec<_>>().join(".");
    let load = read("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    // The name, in parentheses, may hold spaces; the nice value is field 19.
    let stat = read("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let nice = after_name.split_whitespace().nth(16).unwrap_or_default().to_owned();
    Ok(format!(
        "Machine: virtual machine, {count} processors ({model}), {} GiB of memory, Linux {kernel}; \
         load average at the end {load}, all programs of the run at nice {nice}. Tools: {}.\n\n\
         Command: `{command}`",
        (memory_kib + (1 << 19)) >> 20,
        tools.join(", ")
    ))
}

/// Touches all free memory once. A virtual machine gets its memory from its host page by page on
/// first touch, which costs more than anything measured here; whoever happens to touch it first
/// would pay for all later ones.
pub(super) fn touch_memory() -> Result<(), String> {
    let free_kib = field(&read("/proc/meminfo")?, "MemFree");
    let free_kib: usize = free_kib.split(' ').next().unwrap_or_default().parse().unwrap_or(0);
    let touched = vec![1u8; (free_kib << 10).saturating_sub(MEMORY_LEFT_BYTES)];
    // Freed here; the guest keeps the pages.
    drop(std::hint::black_box(touched));
    Ok(())
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// The first value of a `name : value` line.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The first line a tool prints about itself.
pub(super) fn version(tool: &str) -> String {
    let printed = Command::new(tool).arg("--version").output();
    let line = printed.ok().and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(|line| line.trim().to_owned())
    });
    line.unwrap_or_else(|| format!("{tool} of unknown version"))
}
