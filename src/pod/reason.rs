//! Why something is as it is, in one word: of a container's state, of a failed Pod, of an
//! event. The words are Kubernetes', where it has one, and are what records and outputs have.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$about:meta])* $name:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) enum Reason {
            $($(#[$about])* $name),*
        }

        impl Reason {
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => stringify!($name)),*
                }
            }
        }
    };
}

// A record of an earlier version may have any of them: none is ever taken away.
reasons! {
    // Of a container that waits.
    ContainerCreating
    PodInitializing
    CrashLoopBackOff
    ErrImagePull
    ImagePullBackOff
    InvalidImageName
    ErrImageNeverPull
    CreateContainerConfigError
    CreateContainerError
    // Of one that has ended.
    Completed
    Error
    OOMKilled
    StartError
    ContainerStatusUnknown
    // Of a Pod.
    AppArmor
    DeadlineExceeded
    Evicted
    Infeasible
    Terminated
    // Of events.
    BackOff
    DNSConfigForming
    DroppedOutput
    Failed
    FailedAdopt
    FailedCreatePodSandBox
    FailedKillPod
    FailedLogging
    FailedMount
    FailedPause
    FailedPostStartHook
    FailedPreStopHook
    FailedRecord
    FailedResume
    FailedScheduling
    FailedToRetrieveImagePullSecret
    Killing
    LifecycleHTTPFallback
    NetworkNotReady
    NetworkRestored
    Paused
    ProbeWarning
    Pulled
    Pulling
    RecordDamaged
    RecordRemoved
    ResizeCompleted
    ResizeError
    ResizeInfeasible
    ResizeStarted
    RestartAllContainers
    Restarted
    Resumed
    SELinux
    SandboxChanged
    Started
    Unhealthy
    VolumeNotMeasured
    VolumePermissionChangeInProgress
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.as_str().to_owned()
    }
}
