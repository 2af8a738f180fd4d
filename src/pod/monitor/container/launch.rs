//! One container's start: from its image to a cloned child.
//!
//! 1. a new attempt is written down, then its directories are made;
//! 2. the root filesystem is mounted, in nobody's namespace: it goes with the last
//!    process that uses it, whatever happens to the monitor;
//! 3. users are looked up in it, the bundle is planned and written;
//! 4. FIFOs, log file, cgroup;
//! 5. clone; the child does the rest, while the next container is started.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::epoll::EpollFlags;
use nix::sys::stat::Mode;

use super::child::Child;
use super::output::{Output, make_fifo};
use crate::container::channel::Starting;
use crate::container::plan::namespace::{CGROUP, MOUNT, USER};
use crate::container::plan::{self, Plan};
use crate::container::spawn;
use crate::container::user::Accounts;
use crate::container::wanted::{Sources, Spawn, Stdio};
use crate::image::Image;
use crate::linux::capability::permitted;
use crate::linux::cgroup::{Cgroup, Controllers, Join, OomEvents, Resources, Select};
use crate::linux::mount::Mount;
use crate::linux::procfs::{self, Stat};
use crate::linux::root::{Root, reopen};
use crate::linux::signal;
use crate::linux::{bare, mount_table, namespace};
use crate::oci::seccomp::Filters;
use crate::pod::bundle;
use crate::pod::claims;
use crate::pod::layers::{self, Lowers};
use crate::pod::limits;
use crate::pod::logs::Stream;
use crate::pod::monitor::{Fact, Monitor, Source};
use crate::pod::reason::Reason;
use crate::pod::state::User;
use crate::spec::Container;
use crate::store::make_dir;
use crate::{Context, Error, Ignored, Result};

/// What containers that start one after the other have in common, until they have all
/// started.
#[derive(Debug, Default)]
pub(in crate::pod::monitor) struct Shared {
    filters: Filters,
    null: Option<Mount>,
    /// Of this turn of the event loop: later, a name may mean another one.
    pub images: BTreeMap<String, Rc<Image>>,
    /// Of no more use. The close of a mount that is in no namespace waits for an RCU grace
    /// period, for which no container is to wait.
    pub close_later: Vec<Mount>,
}

impl Monitor {
    /// A null device to hand into a container: [`Mount::null_device`].
    pub(in crate::pod::monitor) fn open_null(&mut self) -> Result<OwnedFd> {
        let null = match self.shared.null.take() {
            Some(null) => null,
            None => Mount::null_device()?,
        };
        let null = self.shared.null.insert(null);
        reopen(null.as_fd(), OFlag::O_RDWR).context("/dev/null")
    }

    /// Clones a new attempt of a container. What was made for an attempt that
    /// fails goes with it.
    /// `volumes`: the images that are volumes of it.
    pub(in crate::pod::monitor) fn launch(
        &mut self,
        name: &str,
        image: &Image,
        volumes: &BTreeMap<String, Rc<Image>>,
    ) -> Result<()> {
        let c = self.spec_of(name);
        let app_armor = self.app_armor(&c)?;
        let labels = self.se_linux(&c)?;
        let (process_label, file_label) = match &labels {
            Some((process, files)) => (process.as_deref(), Some(files.as_str())),
            None => (None, None),
        };
        let attempt = self.new_attempt(name)?;
        let dir = self.paths.bundle(name, attempt);
        let mountpoint = dir.join("rootfs");
        let root = self.make_root(name, attempt, image, file_label)?;
        let volume_images = self.mount_images(volumes, file_label)?;
        let claims = claims::places(&self.layout, self.pod())?;
        let termination_log = self.paths.termination_log(name);
        make_termination_log(&termination_log).context("make the termination log")?;
        let accounts = Accounts::read(&Root::new(root.as_fd()))?;
        let mut filters = std::mem::take(&mut self.shared.filters);
        // The other namespaces that the plan joins are those that this monitor is in.
        let joined = self.joined_pid_namespace(&c)?;
        let inputs = bundle::Inputs {
            pid_namespace: joined.as_ref().map(|(path, _)| path.as_path()),
            pod: self.pod(),
            paths: &self.paths,
            container: &c,
            image: &image.config,
            claims: &claims,
            volume_images: &volume_images,
            accounts: &accounts,
            termination_log: &termination_log,
            app_armor: app_armor.as_deref(),
            permitted: permitted(),
            rlimits: &self.host.rlimits,
            cgroup: &format!("/{}", self.container_cgroup(name)),
            memory_is_v2: self.host.hierarchies.v1_with(Controllers::MEMORY).is_none(),
            process_label,
            file_label,
            env: self.env_inputs(&c)?,
        };
        let bundle = bundle::plan(&inputs, &mut filters)?;
        self.shared.filters = filters;
        bundle.save(&dir.join("config.json"))?;
        let (plan, limits) = bundle.plan()?;

        let log = self.open_log(name, attempt)?;
        let cgroup = Cgroup::create(
            &self.host.hierarchies,
            &self.container_cgroup(name),
            Select::Pod,
        )
        .map_err(|e| limits::out_of_memory(e, &c))?;
        self.live(name).cgroup = Some(cgroup);
        let sources = joined.map(|(_, fd)| Sources {
            mounts: None,
            namespaces: vec![(CloneFlags::CLONE_NEWPID, fd)],
        });
        let birth = Birth {
            plan: &plan,
            limits: &limits,
            root: &root,
            mountpoint: &mountpoint,
            label: file_label,
            sources: sources.as_ref(),
        };
        let cloned = self.clone_container(name, &c, &birth);
        let (starting, outputs) = match cloned {
            Ok(cloned) => cloned,
            Err(e) => {
                self.release_container(name);
                return Err(e);
            }
        };
        let child = Child::new(
            starting,
            &mut self.events,
            Source::Container(name.to_owned()),
        )?;
        let process = Rc::new(plan.process);
        let live = self.live(name);
        live.log = Some(log);
        live.outputs = outputs;
        live.process = Some(process);
        live.stop_signal = image.config.stop_signal.as_deref().and_then(signal::parse);
        live.child = Some(child);
        Ok(())
    }

    /// The pid namespace that a container is born in, if it gets none of its own.
    fn joined_pid_namespace(&mut self, c: &Container) -> Result<Option<(PathBuf, OwnedFd)>> {
        if self.pod().spec.host_pid {
            return Ok(None);
        }
        if let Some(fd) = self.shared_pid_namespace()? {
            return Ok(Some((self.paths.namespace("pid"), fd)));
        }
        let Some(target) = &c.target else {
            return Ok(None);
        };
        let ended = || {
            Error::not_found(format!(
                "container {target:?}, whose processes it is to see, does not run"
            ))
        };
        let running = self.running(target).ok_or_else(ended)?;
        let path = PathBuf::from(format!("/proc/{}/ns/pid", running.pid));
        let fd = namespace::open_kind(&path, CloneFlags::CLONE_NEWPID).map_err(|_| ended())?;
        // Opened by the pid: had it been another process's, the recorded one could not have it.
        match procfs::lives(running.pid, running.pid_start) {
            true => Ok(Some((path, fd))),
            false => Err(ended()),
        }
    }

    /// The next number that no attempt has used, even one that was cut short.
    fn new_attempt(&mut self, name: &str) -> Result<u32> {
        let mut attempt = self.attempt(name);
        while self.paths.bundle(name, attempt).exists() {
            attempt += 1;
        }
        self.tell(Fact::Attempt {
            container: name.to_owned(),
            number: attempt,
        });
        self.publish_first()?;
        self.forget_attempts_before(name, attempt.saturating_sub(1));
        make_dir(&self.paths.bundle(name, attempt).join("rootfs"))?;
        Ok(attempt)
    }

    fn make_root(
        &self,
        name: &str,
        attempt: u32,
        image: &Image,
        label: Option<&str>,
    ) -> Result<Mount> {
        let writable = self.paths.writable_layer(name, attempt);
        let (upper, work) = (writable.join("upper"), writable.join("work"));
        make_dir(&upper)?;
        make_dir(&work)?;
        // Good until the overlay is there, which keeps them by itself.
        let lowers = Lowers::mount(&self.layout, image)?;
        // The upper directory's own mode becomes that of `/`.
        let top = lowers.paths().first().map(std::fs::metadata);
        if let Some(Ok(top)) = top {
            std::fs::set_permissions(&upper, top.permissions())?;
        }
        let base = self.layout.images().join("layers");
        let scratch = self.paths.bundle(name, attempt).join("rootfs");
        Mount::overlay(&base, lowers.paths(), &upper, &work, &scratch, label)
            .context("mount the root filesystem")
    }

    /// Where the images that are volumes are mounted. The record names them already.
    fn mount_images(
        &self,
        images: &BTreeMap<String, Rc<Image>>,
        label: Option<&str>,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let mount = |(volume, image): (&String, &Rc<Image>)| {
            let at = layers::mount_image(&self.layout, image, label)
                .with_context(|| format!("volume {volume}"))?;
            Ok((volume.clone(), at))
        };
        images.iter().map(mount).collect()
    }

    fn clone_container(
        &mut self,
        name: &str,
        c: &Container,
        birth: &Birth,
    ) -> Result<(Starting, Vec<Output>)> {
        let label = birth.label;
        let dir = birth.mountpoint.parent().unwrap_or(birth.mountpoint);
        let live = self.live(name);
        let Some(cgroup) = &live.cgroup else {
            return Err(Error::failed("no cgroup"));
        };
        cgroup.apply(birth.limits).context("limits")?;
        let join = cgroup.join_plan()?;
        live.oom_kills = cgroup.oom_kills().unwrap_or(0);
        live.oom = match c.resources.memory_limit {
            Some(_) => cgroup.oom_events()?,
            None => None,
        };
        let null = self.open_null()?;
        // Without a cgroup namespace the child looks for its cgroups below the host's
        // mounts, and with a user namespace it may not enter the host's namespaces.
        let n = &birth.plan.namespaces;
        let fits = n.new.contains(MOUNT | CGROUP) && !n.has(USER);
        let bare = match fits && !self.shows_pinned_namespaces(birth.plan)? {
            true => bare::open(&self.layout.bare_mounts()),
            false => None,
        };
        let bare = bare.as_ref().map(AsFd::as_fd);
        let (starting, outputs) = if c.tty {
            let stdio = Stdio {
                stdin: null.as_fd(),
                stdout: null.as_fd(),
                stderr: null.as_fd(),
            };
            (birth.spawn(bare, &join, &stdio)?, Vec::new())
        } else {
            let stdin = if c.stdin {
                Some(self.make_stdin(name, c, dir, label)?)
            } else {
                None
            };
            let mut outputs = Vec::new();
            let mut ends = Vec::new();
            for stream in Stream::BOTH {
                let path = dir.join(stream.name());
                ends.push(make_fifo(&path, label)?);
                outputs.push(Output::from_fifo(stream, &path)?);
            }
            let stdio = Stdio {
                stdin: stdin.as_ref().unwrap_or(&null).as_fd(),
                stdout: ends[0].as_fd(),
                stderr: ends[1].as_fd(),
            };
            (birth.spawn(bare, &join, &stdio)?, outputs)
        };
        for (output, stream) in outputs.iter().zip(Stream::BOTH) {
            self.watch_output(name, output, stream)?;
        }
        let oom = self.live(name).oom.take();
        if let Some(events) = oom {
            self.watch_oom(name, &events)?;
            self.live(name).oom = Some(events);
        }
        Ok((starting, outputs))
    }

    /// Whether a hostPath has a pinned mount namespace below it, such as `/run` has (this
    /// program's own, or those of snapd). The kernel attaches no copy of such a tree
    /// (move_mount(2), ELOOP), and leaves the pins out of a copy of all mounts: the container
    /// then starts from that, and not from the bare ones.
    fn shows_pinned_namespaces(&self, plan: &Plan) -> Result<bool> {
        let own = [
            &self.paths.dir,
            &self.paths.data,
            &self.layout.layer_mounts(),
        ];
        let is_pods = |p: &Path| own.iter().any(|dir| p.starts_with(dir));
        let sources: Vec<PathBuf> = plan
            .mounts
            .iter()
            .filter_map(|m| match &m.source {
                plan::Source::Bind { path, .. } => Some(path),
                plan::Source::SubPath { volume, .. } => Some(volume),
                _ => None,
            })
            .filter(|path| !is_pods(path))
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        if sources.is_empty() {
            return Ok(false);
        }
        let mounts = mount_table::of("self")?;
        let mut pins = mounts.iter().filter(|m| m.pins_mount_namespace());
        Ok(pins.any(|pin| sources.iter().any(|s| pin.point.starts_with(s))))
    }

    pub(in crate::pod::monitor) fn watch_oom(
        &mut self,
        name: &str,
        events: &OomEvents,
    ) -> Result<()> {
        let flags = EpollFlags::from_bits_truncate(events.awaited().bits().into());
        self.events
            .watch(events, flags, Source::Oom(name.to_owned()))
    }

    pub(in crate::pod::monitor) fn watch_output(
        &mut self,
        name: &str,
        output: &Output,
        stream: Stream,
    ) -> Result<()> {
        // Edge-triggered: a line's beginning may stay in the FIFO for long.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.events
            .watch(output, flags, Source::Output(name.to_owned(), stream))
    }

    /// The container's end of its stdin. With stdinOnce it is to end when the one
    /// client that writes to it does; else never, so that the container itself
    /// holds the other end too.
    fn make_stdin(
        &mut self,
        name: &str,
        c: &Container,
        dir: &Path,
        label: Option<&str>,
    ) -> Result<OwnedFd> {
        let path = dir.join("stdin");
        let both = make_fifo(&path, label)?;
        if !c.stdin_once {
            return Ok(both);
        }
        let open = |flags| {
            nix::fcntl::open(&path, flags | OFlag::O_CLOEXEC, Mode::empty()).map_err(|e| {
                Error::sys(
                    format!("open({}, {})", path.display(), crate::error::flags(flags)),
                    e,
                )
            })
        };
        let reader = open(OFlag::O_RDONLY)?;
        self.live(name).stdin = Some(open(OFlag::O_WRONLY)?);
        Ok(reader)
    }

    /// The child has become the container's program.
    pub(in crate::pod::monitor) fn now_runs(
        &mut self,
        name: &str,
        pid: i32,
        terminal: Option<OwnedFd>,
    ) {
        let user = self.live(name).process.as_ref().map(|p| User {
            uid: p.uid,
            gid: p.gid,
            supplemental_groups: p.groups.clone(),
        });
        self.tell(Fact::Started {
            container: name.to_owned(),
            pid,
            pid_start: Stat::of(pid).map_or(0, |s| s.start),
            user,
        });
        if let Some(master) = terminal
            && let Err(e) = self.take_master(name, master)
        {
            self.event(true, Reason::FailedLogging, e.to_string());
        }
        self.attach_waiting(name);
        // Its output was left alone so far, for those to see it all.
        self.pump(name, false);
    }

    fn take_master(&mut self, name: &str, master: OwnedFd) -> Result<()> {
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR),
        )
        .map_err(|e| Error::sys("fcntl(F_SETFL)", e))?;
        let reader = master.try_clone()?;
        let output = Output::from_terminal(reader);
        self.watch_output(name, &output, Stream::Stdout)?;
        let live = self.live(name);
        live.terminal = Some(master);
        live.outputs.push(output);
        // What came before it was watched makes no edge.
        self.pump(name, false);
        Ok(())
    }
}

/// What a container is cloned from.
struct Birth<'a> {
    plan: &'a Plan,
    limits: &'a Resources,
    root: &'a Mount,
    mountpoint: &'a Path,
    /// The SELinux label of its files.
    label: Option<&'a str>,
    sources: Option<&'a Sources>,
}

impl Birth<'_> {
    fn spawn(
        &self,
        bare_mounts: Option<BorrowedFd>,
        join: &Join,
        stdio: &Stdio,
    ) -> Result<Starting> {
        spawn::spawn(&Spawn {
            resctrl: &[],
            plan: self.plan,
            root: self.root,
            mountpoint: self.mountpoint,
            join: Some(join),
            stdio,
            sources: self.sources,
            start: None,
            bare_mounts,
            host_mounts: None,
            prepare_child: None,
        })
    }
}

/// A new file each time: what is left of the attempt before may have the old one.
/// Every user of the container may write to it, as with a kubelet.
fn make_termination_log(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    path.parent().map_or(Ok(()), make_dir)?;
    std::fs::remove_file(path)
        .ignored("mostly there is none; the next call says what is wrong with it");
    let file = std::fs::File::create_new(path)
        .with_context(|| format!("open({}, O_CREAT|O_EXCL)", path.display()))?;
    file.set_permissions(std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("chmod({})", path.display()))
}
