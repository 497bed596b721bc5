/* What a box can do, seen from inside: PID 1 of the image that the live tests load. In C, because nearly all of it is
 * single system calls and the workspace forbids unsafe Rust. It must never do harm if a call is let through: every
 * call that would change something has arguments that the kernel itself refuses.
 *
 * BOX_MODE says what to do. `report` writes lines `key value` to /out/report. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *out;

static void say(const char *key, const char *value) { fprintf(out, "%s %s\n", key, value); }
/* `result` is what a system call returned: 0 or more is "ok", else the name of the error. */
static void call(const char *key, long result) { say(key, result >= 0 ? "ok" : strerrorname_np(errno)); }

static void copy_lines(const char *path, const char *prefix, const char *key) {
  char line[1024], name[1100];
  FILE *file = fopen(path, "r");
  if (!file) { say(key, strerrorname_np(errno)); return; }
  for (int i = 0; fgets(line, sizeof line, file); i++) {
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, prefix, strlen(prefix))) continue;
    snprintf(name, sizeof name, "%s.%d", key, i);
    say(name, line);
  }
  fclose(file);
}

static void limit(const char *key, int resource) {
  struct rlimit most;
  char text[64];
  getrlimit(resource, &most);
  snprintf(text, sizeof text, "%lld %lld", (long long)most.rlim_cur, (long long)most.rlim_max);
  say(key, text);
}

static void make(const char *key, const char *path) { call(key, open(path, O_CREAT | O_EXCL | O_WRONLY, 0600)); }

/* Writes until the mount is full and takes the file away again. */
static void fill(const char *key, const char *path) {
  static char block[65536];
  char text[64];
  long long sum = 0;
  int file = open(path, O_CREAT | O_WRONLY, 0600);
  ssize_t n = 0;
  while (sum < (64LL << 20) && (n = write(file, block, sizeof block)) > 0) sum += n;
  snprintf(text, sizeof text, "%s %lld", n < 0 ? strerrorname_np(errno) : "ok", sum);
  say(key, text);
  close(file);
  unlink(path);
}

static void script(const char *key, const char *path) {
  int file = open(path, O_CREAT | O_WRONLY, 0700);
  if (write(file, "#!/inside\n", 10) != 10) say(key, "unwritable");
  close(file);
  pid_t child = fork();
  int status = 0;
  if (child == 0) { execl(path, path, (char *)0); _exit(errno); }
  waitpid(child, &status, 0);
  say(key, WIFEXITED(status) ? strerrorname_np(WEXITSTATUS(status)) : "signal");
  unlink(path);
}

static void gateway(void) {
  struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "/run/gw/gw.sock" };
  char answer[16] = "nothing";
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  call("gateway.connect", connect(s, (struct sockaddr *)&at, sizeof at));
  call("gateway.write", write(s, "hello\n", 6));
  shutdown(s, SHUT_WR);
  ssize_t n = read(s, answer, sizeof answer - 1);
  if (n > 0) answer[strcspn(answer, "\n")] = 0;
  say("gateway.answer", answer);
  close(s);
  make("gateway.create", "/run/gw/other");
  call("gateway.unlink", unlink("/run/gw/gw.sock"));
  call("gateway.rename", rename("/run/gw/gw.sock", "/run/gw/x"));
  call("gateway.chmod", chmod("/run/gw/gw.sock", 0));
}

static void families(void) {
  struct { const char *key; int family, type; } all[] = {
    { "socket.unix", AF_UNIX, SOCK_STREAM }, { "socket.inet", AF_INET, SOCK_STREAM }, { "socket.inet.udp", AF_INET, SOCK_DGRAM },
    { "socket.inet6", AF_INET6, SOCK_STREAM }, { "socket.netlink", AF_NETLINK, SOCK_RAW }, { "socket.packet", AF_PACKET, SOCK_RAW },
    { "socket.vsock", AF_VSOCK, SOCK_STREAM }, { "socket.alg", AF_ALG, SOCK_SEQPACKET }, { "socket.bluetooth", AF_BLUETOOTH, SOCK_RAW },
    { "socket.xdp", AF_XDP, SOCK_RAW }, { "socket.unspec", AF_UNSPEC, SOCK_STREAM },
  };
  int pair[2];
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) call(all[i].key, socket(all[i].family, all[i].type, 0));
  call("socketpair.unix", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  call("socketpair.inet", socketpair(AF_INET, SOCK_STREAM, 0, pair));
}

/* Where a secret may be left: a folder that all can write, home, shared memory, and a name that is no file. */
static const char *const PLACES[] = { "/tmp/secret", "/home/agent/secret", "/dev/shm/secret", "/var/tmp/secret" };
static const struct sockaddr_un NAMED = { .sun_family = AF_UNIX, .sun_path = "\0custody-secret" };
static const socklen_t NAMED_BYTES = sizeof(sa_family_t) + sizeof "\0custody-secret" - 1;

static void look(void) {
  char name[64];
  int others = 0;
  for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
    snprintf(name, sizeof name, "left.%s", PLACES[i]);
    call(name, open(PLACES[i], O_RDONLY));
  }
  call("left.abstract", connect(socket(AF_UNIX, SOCK_STREAM, 0), (const struct sockaddr *)&NAMED, NAMED_BYTES));
  DIR *all = opendir("/proc");
  for (struct dirent *one; all && (one = readdir(all));) {
    int pid = atoi(one->d_name);
    if (pid <= 0 || pid == getpid()) continue;
    others++;
    snprintf(name, sizeof name, "/proc/%d/environ", pid);
    if (open(name, O_RDONLY) >= 0) say("environ.of.another", "ok");
  }
  snprintf(name, sizeof name, "%d", others);
  say("others", name);
}

/* Leaves a secret everywhere, finds its own, and stays. */
static void leave(void) {
  for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) close(open(PLACES[i], O_CREAT | O_WRONLY, 0644));
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  call("abstract.bind", bind(s, (const struct sockaddr *)&NAMED, NAMED_BYTES));
  call("abstract.listen", listen(s, 4));
  look();
}

static void calls(void) {
  char name[] = "/x";
#define REFUSED(nr, ...) call("call." #nr, syscall(SYS_##nr, ##__VA_ARGS__))
  REFUSED(unshare, CLONE_NEWUSER);
  REFUSED(setns, -1, 0);
  REFUSED(mount, name, name, name, 0UL, 0UL);
  REFUSED(umount2, name, 0);
  REFUSED(pivot_root, name, name);
  REFUSED(chroot, "/");
  REFUSED(open_by_handle_at, -1, 0, 0);
  REFUSED(name_to_handle_at, -1, name, 0, 0, 0);
  REFUSED(init_module, 0, 0, name);
  REFUSED(finit_module, -1, name, 0);
  REFUSED(delete_module, name, 0);
  REFUSED(kexec_load, 0UL, 0UL, 0UL, ~0UL);
  REFUSED(bpf, -1, 0, 0);
  REFUSED(perf_event_open, 0, 0, 0, 0, 0);
  REFUSED(keyctl, -1, 0, 0, 0, 0);
  REFUSED(add_key, 0, 0, 0, 0, 0);
  REFUSED(request_key, 0, 0, 0, 0);
  REFUSED(userfaultfd, ~0);
  REFUSED(io_uring_setup, 1, 0);
  REFUSED(io_uring_enter, -1, 0, 0, 0, 0, 0);
  REFUSED(io_uring_register, -1, 0, 0, 0);
  REFUSED(ptrace, 0, 0, 0, 0);
  REFUSED(process_vm_readv, getpid(), 0, 0, 0, 0, 0);
  REFUSED(process_vm_writev, getpid(), 0, 0, 0, 0, 0);
  REFUSED(kcmp, getpid(), getpid(), 0, 0, 0);
  REFUSED(mknodat, AT_FDCWD, "/out/node", S_IFCHR | 0600, 0x103);
  REFUSED(settimeofday, 0, name);
  REFUSED(clock_settime, -1, 0);
  REFUSED(adjtimex, 0);
  REFUSED(sethostname, 0, -1);
  REFUSED(quotactl, 0, 0, 0, 0);
  REFUSED(acct, name);
  REFUSED(swapon, name, 0);
  REFUSED(reboot, 0, 0, 0, 0);
  REFUSED(syslog, -1, 0, 0);
  REFUSED(personality, 0x0040000UL);
  REFUSED(memfd_create, "x", 0);
  REFUSED(setxattr, "/out/report", "user.x", "1", 1, 0);
  REFUSED(shmget, 0, 4096, 01600);
  REFUSED(mq_open, "x", O_CREAT, 0600, 0);
  REFUSED(fsopen, "tmpfs", 0);
  REFUSED(pidfd_getfd, -1, 0, 0);
  REFUSED(clone3, 0, 0);
#undef REFUSED
  call("call.personality.read", syscall(SYS_personality, 0xffffffffUL));
  long flags[] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP };
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    char key[64];
    long child = syscall(SYS_clone, flags[i] | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    snprintf(key, sizeof key, "clone.%08lx", flags[i]);
    call(key, child);
  }
#ifdef __x86_64__
  /* getpid of the 32-bit table: no second door to socketcall and friends. */
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20L) : "memory");
    _exit(answer > 0 ? 1 : 2);
  }
  waitpid(child, &status, 0);
  say("call.int80", WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? "SIGSYS" : WEXITSTATUS(status) == 1 ? "ok" : "refused");
#endif
}

/* Opens one file of every control group for writing: "ok" if any can be, else the name of the last error. */
static const char *open_below(const char *folder, const char *file) {
  char path[512];
  const char *came = "ENOENT";
  DIR *all = opendir(folder);
  for (struct dirent *one; all && (one = readdir(all));) {
    snprintf(path, sizeof path, "%s/%s/%s", folder, one->d_name, file);
    if (open(path, O_WRONLY) >= 0) came = "ok";
    else if (strcmp(came, "ok") && errno != ENOENT && errno != ENOTDIR) came = strerrorname_np(errno);
  }
  if (all) closedir(all);
  return came;
}

/* The ways out of a container that the trust design lists (T39), one line for each, and beside them what a box may do.
 * BOX_HOST is a file of the host that no mount leads to. */
static void escapes(void) {
  const char *host = getenv("BOX_HOST");
  char climb[512];
  int status = 0, others = 0;
  call("honest.create", open("/out/own", O_CREAT | O_WRONLY, 0600));
  call("honest.link", symlink("own", "/out/link"));
  call("honest.through_a_link", open("/out/link", O_RDONLY));
  call("honest.environ", open("/proc/self/environ", O_RDONLY));
  call("honest.socket", socket(AF_UNIX, SOCK_STREAM, 0));
  pid_t child = fork();
  if (child == 0) _exit(0);
  call("honest.fork", waitpid(child, &status, 0));

  call("escape.mount.proc", mount("proc", "/tmp", "proc", 0, 0));
  call("escape.mount.bind", mount("/", "/tmp", 0, MS_BIND, 0));
  call("escape.mount.cgroup", mount("cgroup", "/tmp", "cgroup", 0, "rdma"));
  call("escape.remount", mount(0, "/", 0, MS_REMOUNT | MS_BIND, 0));
  call("escape.umount", umount2("/proc/sys", MNT_DETACH));
  /* PTRACE_SEIZE of process 1: on the host that would be its init; here it is this process, which the kernel refuses too. */
  call("escape.ptrace", syscall(SYS_ptrace, 0x4206, 1, 0, 0));
  call("escape.memory_of_1", syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));
  call("escape.socket.raw", socket(AF_INET, SOCK_RAW, 1));
  call("escape.socket.packet", socket(AF_PACKET, SOCK_RAW, 0));
  call("escape.socket.netlink", socket(AF_NETLINK, SOCK_RAW, 0));
  call("escape.device.make", mknod("/tmp/disk", S_IFBLK | 0600, makedev(8, 0)));
  call("escape.device.disk", open("/dev/sda", O_RDONLY));
  call("escape.device.memory", open("/dev/mem", O_RDONLY));
  call("escape.device.kernel_log", open("/dev/kmsg", O_RDONLY));
  call("escape.setuid", setuid(0));
  call("escape.setgid", setgid(0));
  call("escape.setgroups", syscall(SYS_setgroups, 0, 0));
  call("escape.chown", chown("/out/own", 0, 0));
  call("escape.unshare.user", unshare(CLONE_NEWUSER));
  call("escape.unshare.user_and_mounts", unshare(CLONE_NEWUSER | CLONE_NEWNS));
  call("escape.setns", setns(-1, 0));
  call("escape.chroot", chroot("/tmp"));
  say("escape.release_agent", open_below("/sys/fs/cgroup", "release_agent"));
  say("escape.notify_on_release", open_below("/sys/fs/cgroup", "notify_on_release"));
  say("escape.cgroup.procs", open_below("/sys/fs/cgroup", "cgroup.procs"));
  call("escape.cgroup.make", mkdir("/sys/fs/cgroup/escape", 0700));
  call("escape.core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
  call("escape.modprobe", open("/proc/sys/kernel/modprobe", O_WRONLY));
  call("escape.uevent_helper", open("/sys/kernel/uevent_helper", O_WRONLY));
  call("escape.sysrq", open("/proc/sysrq-trigger", O_WRONLY));
  call("escape.kernel_memory", open("/proc/kcore", O_RDONLY | O_NONBLOCK) < 0 ? -1 : read(open("/proc/kcore", O_RDONLY), climb, 16) > 0 ? 0 : (errno = ENOENT, -1));
  call("escape.engine.var_run", open("/var/run/docker.sock", O_RDWR));
  call("escape.engine.run", open("/run/docker.sock", O_RDWR));
  call("escape.engine.containerd", open("/run/containerd/containerd.sock", O_RDWR));
  call("escape.engine.podman", open("/run/podman/podman.sock", O_RDWR));
  if (host) {
    snprintf(climb, sizeof climb, "/out/../../../../../../..%s", host);
    call("escape.host.path", open(host, O_RDONLY));
    call("escape.host.climb", open(climb, O_RDONLY));
    if (symlink(host, "/out/away") == 0) call("escape.host.link", open("/out/away", O_RDONLY));
    snprintf(climb, sizeof climb, "/proc/1/root%s", host);
    call("escape.host.root_of_1", open(climb, O_RDONLY));
  }
  DIR *all = opendir("/proc");
  for (struct dirent *one; all && (one = readdir(all));) others += atoi(one->d_name) > 0 && atoi(one->d_name) != getpid();
  snprintf(climb, sizeof climb, "%d", others);
  say("processes.of.others", climb);
  copy_lines("/proc/1/comm", "", "name.of.1");
}

extern char **environ;

static void report(void) {
  char text[256];
  snprintf(text, sizeof text, "%d %d", getuid(), getgid());
  say("ids", text);
  gid_t groups[64];
  int count = getgroups(64, groups);
  for (int i = 0; i < count; i++) {
    snprintf(text, sizeof text, "%d", groups[i]);
    say("group", text);
  }
  snprintf(text, sizeof text, "%d", getpid());
  say("pid", text);
  for (char **pair = environ; *pair; pair++) say("env", *pair);
  copy_lines("/proc/self/status", "Cap", "status");
  copy_lines("/proc/self/status", "NoNewPrivs:", "status");
  copy_lines("/proc/self/status", "Seccomp:", "status");
  copy_lines("/proc/self/mountinfo", "", "mount");
  copy_lines("/proc/self/cgroup", "", "hierarchy");
  DIR *dev = opendir("/dev");
  for (struct dirent *entry; dev && (entry = readdir(dev));) if (entry->d_name[0] != '.') say("node", entry->d_name);
  copy_lines("/proc/net/dev", " ", "interface");
  copy_lines("/proc/self/oom_score_adj", "", "oom");
  limit("limit.nofile", RLIMIT_NOFILE);
  limit("limit.core", RLIMIT_CORE);
  limit("limit.fsize", RLIMIT_FSIZE);
  limit("limit.nproc", RLIMIT_NPROC);
  make("root.create", "/created");
  make("out.create", "/out/created");
  call("core_pattern.open", open("/proc/sys/kernel/core_pattern", O_WRONLY));
  call("sysrq.open", open("/proc/sysrq-trigger", O_WRONLY));
  call("cgroup.write", open("/sys/fs/cgroup/pids/cgroup.procs", O_WRONLY));
  call("docker.sock", access("/var/run/docker.sock", F_OK));
  fill("tmp.fill", "/tmp/filled");
  fill("home.fill", "/home/agent/filled");
  script("tmp.exec", "/tmp/script");
  script("home.exec", "/home/agent/script");
  gateway();
  families();
  calls();
}

static void eat(void) {
  for (;;) {
    char *block = malloc(1 << 20);
    if (block) memset(block, 1, 1 << 20);
  }
}

int main(void) {
  const char *mode = getenv("BOX_MODE");
  if (!mode) return 99;
  if (!strcmp(mode, "seven")) return 7;
  if (!strcmp(mode, "sleep")) { signal(SIGTERM, SIG_IGN); for (;;) pause(); }
  if (!strcmp(mode, "eat")) eat();
  if (!strcmp(mode, "child-eats")) { if (fork() == 0) eat(); wait(0); return 0; }
  if (!strcmp(mode, "flood")) {
    for (int i = 0; i < 200000; i++) puts("a line of output that nobody asked for and nobody will ever read");
    return 0;
  }
  if (!strcmp(mode, "blank")) {
    /* Nothing is there before the claim; what is bound last is seen last. */
    int before = access("/session/here", F_OK) == 0 || access("/workspace/here", F_OK) == 0;
    while (access("/run/gw/here", F_OK)) usleep(2000);
    out = fopen("/session/report", "w");
    if (!out) return 96;
    say("before", before ? "something" : "nothing");
    call("workspace.read", access("/workspace/here", R_OK));
    make("workspace.create", "/workspace/created");
    make("second.create", "/workspaces/two/created");
    make("session.create", "/session/created");
    make("gateway.create", "/run/gw/created");
    copy_lines("/proc/self/mountinfo", "", "mount");
    return fclose(out);
  }
  out = fopen("/out/report", "w");
  if (!out) return 98;
  if (!strcmp(mode, "fork")) {
    char text[64];
    int made = 0;
    for (pid_t child; made < 1000 && (child = fork()) >= 0; made++) if (child == 0) for (;;) pause();
    snprintf(text, sizeof text, "%d %s", made, made < 1000 ? strerrorname_np(errno) : "ok");
    say("fork", text);
    fclose(out);
    /* With it alive the next box shows whether the limit of one is felt by the other. */
    if (getenv("BOX_STAY")) for (;;) pause();
    return 0;
  }
  if (!strcmp(mode, "look")) { look(); return fclose(out); }
  if (!strcmp(mode, "leave")) { leave(); fclose(out); close(open("/out/left", O_CREAT | O_WRONLY, 0644)); for (;;) pause(); }
  if (!strcmp(mode, "escape")) { escapes(); return fclose(out); }
  if (!strcmp(mode, "report")) { report(); return fclose(out); }
  return 97;
}
