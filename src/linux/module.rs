//! Parts of the kernel that are modules, which it loads when they are first asked for.

use crate::Error;

/// Says of an error by which the kernel tells that it lacks `module` what mends it.
pub(crate) fn missing(e: Error, module: &str) -> Error {
    let disabled = std::fs::read("/proc/sys/kernel/modules_disabled");
    e.hint(missing_hint(
        disabled.is_ok_and(|t| t.starts_with(b"1")),
        module,
    ))
}

fn missing_hint(disabled: bool, module: &str) -> String {
    if disabled {
        return format!(
            "kernel.modules_disabled is 1, so the kernel loads no module until the next boot: \
             name {module} in /etc/modules-load.d/carob.conf, and boot again"
        );
    }
    format!("this kernel has no {module}, or it may not be loaded: `modprobe {module}` says why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_module_and_the_sysctl() {
        let hint = missing_hint(true, "overlay");
        assert!(hint.contains("kernel.modules_disabled is 1") && hint.contains("name overlay in"));
        assert!(missing_hint(false, "veth").contains("`modprobe veth`"));
    }
}
