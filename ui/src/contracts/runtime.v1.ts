// Generated from contracts/runtime.v1/schema.json by scripts/types.mjs. Do not edit.

/** What to run, as POST /workloads takes it. The same id twice is the same workload. */
export type WorkloadSpec = {
  /** The workload's id, chosen by the caller: the dispatch id. The container has the same name. */
  readonly workloadId: WorkloadId;
  /** Which kind of workload; images, mounts and defaults come with it. */
  readonly profile: Profile;
  /** Settings for the worker. Never a secret: a box holds none. */
  readonly env: { readonly [key: string]: string };
  /** Ceilings of the container. An absent one is the profile's. */
  readonly resources?: Resources;
  /** Stopped after this long without a sign of life, in seconds (one day at most). 0: never. */
  readonly idleTimeoutSec?: number;
  /** Stopped after this long whatever it does, in seconds (seven days at most). */
  readonly maxLifetimeSec?: number;
  /** What runs it. Absent: what the runtime is set up for. */
  readonly backend?: Backend;
};

/** A workload's id. */
export type WorkloadId = string;

/** A kind of workload, such as agent. */
export type Profile = string;

/** Ceilings of one container. */
export type Resources = {
  /** Processor time, in cores. */
  readonly cpu?: number;
  /** Memory, in MiB. Swap is off. */
  readonly memoryMb?: number;
  /** Processes and threads. */
  readonly pids?: number;
};

/** docker: a local engine. k8s: a Job in a cluster. Running in the server's own process does not exist. */
export type Backend = "docker" | "k8s";

/** A workload goes through these from left to right and never back; it may leave some out. */
export type State = "starting" | "running" | "stopping" | "stopped" | "destroyed";

/** Why it ended. completed: by itself, well. stopped: somebody asked. idle_timeout, max_lifetime: a clock. failed: by itself, badly. oom: out of memory. start_failed: it never ran. revoked: its authority was withdrawn. budget: it was used up. */
export type StopReason = "completed" | "stopped" | "idle_timeout" | "failed" | "oom" | "start_failed" | "max_lifetime" | "revoked" | "budget";

/** What the runtime knows of a workload. */
export type WorkloadStatus = {
  /** Which workload. */
  readonly workloadId: WorkloadId;
  /** Its kind. */
  readonly profile: Profile;
  /** Where it is. */
  readonly state: State;
  /** When its process started. Absent: it has not. RFC 3339, with a zone. */
  readonly startedAt?: string;
  /** When its process ended. Absent: it has not. RFC 3339, with a zone. */
  readonly stoppedAt?: string;
  /** How the process ended. Absent: it has not, or a signal ended it. */
  readonly exitCode?: ExitCode;
  /** Why it ended. Absent: it has not. */
  readonly stopReason?: StopReason;
  /** What runs it. */
  readonly backend: Backend;
  /** The machine it runs on. */
  readonly node?: string;
};

/** A process's exit code, as the back end gives it: 0 to 255 from Docker. */
export type ExitCode = number;

/** One change of a workload's state. */
export type RuntimeEvent = {
  /** Which workload. */
  readonly workloadId: WorkloadId;
  /** The state it is in now. */
  readonly state: State;
  /** When it changed. RFC 3339, with a zone. */
  readonly at: string;
  /** How the process ended, when it has. */
  readonly exitCode?: ExitCode;
  /** Why it ended, when it has. */
  readonly stopReason?: StopReason;
};
