/* What a box can do, measured from inside: one line of JSON for each control of the sandbox and each refused system
 * call, exit 1 on any surprise. Run as the agent of a dispatch, so it takes the way that a hostile agent would.
 *
 * In C, because nearly all of it is single system calls with arguments that no safe Rust function lets through, and the
 * workspace forbids unsafe Rust. It must never do harm if a call is let through: every call that would change something
 * has arguments that the kernel itself refuses.
 *
 * The prompt is words `key=value`: what this box was promised (sockets, memory, pids, cpu_milli, runtime, slots,
 * workspace) and what the host's namespaces are (ns_net and so on). `mode=memory` and `mode=sleep` are not a report but
 * one misdeed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static const char *prompt = "";
static int surprises;

enum verdict { FAIL, OK, SKIP };

/* The value of a word of the prompt, or "". */
static const char *word(const char *key) {
  static char value[8][256];
  static int turn;
  char *out = value[turn++ % 8];
  size_t length = strlen(key);
  for (const char *at = prompt; (at = strstr(at, key)); at += length) {
    if ((at == prompt || at[-1] == ' ') && at[length] == '=') {
      snprintf(out, 256, "%.*s", (int)strcspn(at + length + 1, " \n"), at + length + 1);
      return out;
    }
  }
  *out = 0;
  return out;
}
static long long number(const char *key) { return atoll(word(key)); }

/* gVisor's kernel stands between the box and the host's. What it lets through never reaches the host's kernel, so it is
 * told and not called a failure; what it does not show cannot be measured. */
static int gvisor(void) {
  const char *runtime = word("runtime");
  return strstr(runtime, "runsc") != 0 || strstr(runtime, "gvisor") != 0;
}

static void text(const char *s) {
  putchar('"');
  for (; *s; s++) {
    unsigned char c = *s;
    if (c == '"' || c == '\\') printf("\\%c", c);
    else if (c < 0x20 || c > 0x7e) printf("\\u%04x", c);
    else putchar(c);
  }
  putchar('"');
}

static void line(const char *row, const char *control, enum verdict verdict, const char *format, ...) {
  char measured[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(measured, sizeof measured, format, arguments);
  va_end(arguments);
  if (verdict == FAIL) surprises++;
  printf("{\"row\":"); text(row);
  printf(",\"control\":"); text(control);
  printf(",\"status\":\"%s\",\"measured\":", verdict == OK ? "ok" : verdict == SKIP ? "skip" : "fail"); text(measured);
  printf("}\n");
  fflush(stdout);
}

/* What a system call came to: "ok" or the name of the error. */
static const char *came(long result) { return result >= 0 ? "ok" : strerrorname_np(errno); }
static int is(const char *a, const char *b) { return strcmp(a, b) == 0; }
static int one_of(const char *found, const char *const *wanted) {
  for (; *wanted; wanted++) if (is(found, *wanted)) return 1;
  return 0;
}
#define ONE_OF(found, ...) one_of(found, (const char *const[]){ __VA_ARGS__, 0 })

static const char *read_file(const char *path) {
  static char bytes[4][65536];
  static int turn;
  char *out = bytes[turn++ % 4];
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t have = 0, n;
  if (file >= 0) {
    while (have < 65535 && (n = read(file, out + have, 65535 - have)) > 0) have += n;
    close(file);
  }
  out[have] = 0;
  return out;
}
/* The rest of the first line of /proc/self/status that begins so, without white space before it. */
static const char *status(const char *key) {
  static char out[4][256];
  static int turn;
  char *value = out[turn++ % 4];
  const char *all = read_file("/proc/self/status"), *at = strstr(all, key);
  *value = 0;
  if (at) {
    at += strlen(key);
    at += strspn(at, ":\t ");
    snprintf(value, 256, "%.*s", (int)strcspn(at, "\n"), at);
  }
  return value;
}

/* 1: who it is, and that no file makes it somebody else. */
static char found_paths[512];
static int found_count;
static void note_path(const char *path) {
  size_t have = strlen(found_paths);
  found_count++;
  snprintf(found_paths + have, sizeof found_paths - have, "%s%s", have ? " " : "", path);
}
static int setuid_file(const char *path, const struct stat *facts, int kind, struct FTW *where) {
  (void)where;
  if (kind == FTW_F && (facts->st_mode & (S_ISUID | S_ISGID))) note_path(path);
  return 0;
}
static void row_identity(void) {
  gid_t groups[64];
  int count = getgroups(64, groups), foreign = 0;
  for (int i = 0; i < count; i++) foreign += groups[i] != getgid();
  found_count = 0; found_paths[0] = 0;
  nftw("/", setuid_file, 16, FTW_PHYS | FTW_MOUNT);
  int ok = getuid() == 65532 && geteuid() == 65532 && getgid() == 65532 && !foreign && !found_count;
  line("1", "not root", ok, "uid %d gid %d, %d other groups, %d setuid files %s", getuid(), getgid(), foreign, found_count, found_paths);
}

static void rows_status(void) {
  const char *privileges = status("NoNewPrivs");
  if (gvisor() && !*privileges) line("2", "no new privileges", SKIP, "gVisor's kernel does not show it");
  else line("2", "no new privileges", is(privileges, "1"), "NoNewPrivs %s", privileges);
  const char *caps[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
  int zero = 0, shown = 0;
  for (int i = 0; i < 5; i++) {
    shown += *status(caps[i]) != 0;
    zero += strspn(status(caps[i]), "0") == 16;
  }
  line("3", "no capabilities", zero == shown && shown >= (gvisor() ? 4 : 5), "%d of %d sets are empty", zero, shown);
    if (gvisor()) line("4", "own seccomp profile", SKIP, "gVisor's kernel answers, and its own filter stands around it");
  else line("4", "own seccomp profile", is(status("Seccomp"), "2"), "Seccomp %s", status("Seccomp"));
}

static const char *make(const char *path) {
  int file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  const char *what = came(file);
  if (file >= 0) { close(file); unlink(path); }
  return what;
}
static const char *execute(const char *folder) {
  char path[256];
  snprintf(path, sizeof path, "%s/.probe-script", folder);
  int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
  if (file < 0) return came(file);
  if (write(file, "#!/usr/local/bin/custody-probe\n", 31) != 31) return "unwritable";
  close(file);
  pid_t child = fork();
  int code = 0;
  if (child == 0) { execl(path, path, (char *)0); _exit(errno & 0x7f); }
  waitpid(child, &code, 0);
  unlink(path);
  return WIFEXITED(code) ? WEXITSTATUS(code) ? strerrorname_np(WEXITSTATUS(code)) : "ok" : "signal";
}
/* Writes until the mount is full and takes the file away again: how many MiB went in, or -1 without an error. */
static long long fill(const char *folder) {
  static char block[65536];
  char path[256];
  snprintf(path, sizeof path, "%s/.probe-fill", folder);
  int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  long long sum = 0;
  ssize_t n = 0;
  while (file >= 0 && sum < (64LL << 20) && (n = write(file, block, sizeof block)) > 0) sum += n;
  int full = n < 0 && errno == ENOSPC;
  if (file >= 0) close(file);
  unlink(path);
  return full ? sum : -1;
}
static void rows_files(void) {
  line("5", "read-only root", ONE_OF(make("/.probe"), "EROFS", gvisor() ? "EACCES" : "EROFS"), "create in / %s", make("/.probe"));
  const char *home = getenv("HOME") ? getenv("HOME") : "/home/agent";
  long long tmp = fill("/tmp"), own = fill(home);
  const char *exec_tmp = execute("/tmp"), *exec_home = execute(home);
  int ok = tmp > 0 && tmp <= 16LL << 20 && own > 0 && own <= 16LL << 20 && is(exec_tmp, "EACCES") && is(exec_home, "EACCES");
  line("6", "scratch", ok, "/tmp full at %lld bytes, exec %s; home full at %lld, exec %s", tmp, exec_tmp, own, exec_home);
}

/* 7 and 16: where it is mounted, and nothing that travels back to the host. */
static void rows_mounts(void) {
  const char *ours[] = { "/", "/tmp", "/home/agent", "/run/gw", "/session", "/workspace", "/workspaces",
                         "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", 0 };
  char *all = strdup(read_file("/proc/self/mountinfo")), *rest = all, *entry;
  char strange[512] = "";
  int shared = 0, slaves = 0, writable_gw = 0, rw_engine = 0, count = 0;
  int slots = is(word("slots"), "yes");
  while ((entry = strsep(&rest, "\n")) && *entry) {
    char place[512] = "", options[512] = "";
    count++;
    sscanf(entry, "%*s %*s %*s %*s %511s %511s", place, options);
    if (strstr(entry, " shared:")) shared++;
    if (strstr(entry, " master:") && !is(place, "/") && !slots) slaves++;
    if (is(place, "/run/gw") && !strncmp(options, "rw", 2) && !slots) writable_gw++;
    if (!strncmp(place, "/etc/", 5) && !strncmp(options, "rw", 2)) rw_engine++;
    int kernels = !strncmp(place, "/proc", 5) || !strncmp(place, "/sys", 4) || !strncmp(place, "/dev", 4);
    if (!kernels && !one_of(place, ours) && strncmp(place, "/workspaces/", 12)) {
      size_t have = strlen(strange);
      snprintf(strange + have, sizeof strange - have, " %s", place);
    }
  }
  free(all);
  int ok = count > 0 && !shared && !slaves && !writable_gw && (!rw_engine || gvisor()) && !*strange;
  line("7", "mounts", ok, "%d mounts, %d shared, %d slaves, unknown:%s", count, shared, slaves, *strange ? strange : " none");
  const char *mode = word("workspace"), *created = make("/workspace/.probe");
  if (*mode) {
    int right = is(mode, "rw") ? is(created, "ok") : is(created, "EROFS");
    line("7", "workspace's mode", right, "create in a workspace mounted %s: %s", mode, created);
  }
}

static long long limit_of(const char *v2, const char *v1) {
  const char *value = read_file(v2);
  if (!*value) value = read_file(v1);
  return *value ? atoll(value) : -1;
}
static void row_ulimits(void) {
  struct { const char *name; int resource; long long most; } ulimits[] = {
    { "nofile", RLIMIT_NOFILE, 1024 }, { "core", RLIMIT_CORE, 0 }, { "fsize", RLIMIT_FSIZE, 1 << 30 }, { "nproc", RLIMIT_NPROC, 4096 },
  };
  char measured[256] = "";
  int ok = 1;
  for (int i = 0; i < 4; i++) {
    struct rlimit found;
    getrlimit(ulimits[i].resource, &found);
    size_t have = strlen(measured);
    snprintf(measured + have, sizeof measured - have, "%s%s %lld", i ? ", " : "", ulimits[i].name, (long long)found.rlim_max);
    ok &= (long long)found.rlim_max == ulimits[i].most && found.rlim_cur == found.rlim_max;
  }
  line("11", "ulimits", ok, "%s", measured);
}

static void rows_limits(void) {
    long long memory = limit_of("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes");
  if (gvisor() && memory < 0) line("8", "memory", SKIP, "gVisor shows no control group; the limit is the sandbox's own");
  else line("8", "memory", memory == number("memory"), "limit %lld bytes, oom_score_adj %d", memory, atoi(read_file("/proc/self/oom_score_adj")));

  if (gvisor()) {
    line("9", "pids", SKIP, "the limit holds the sandbox's threads on the host, not processes inside");
    line("10", "cpu", SKIP, "the limit holds the sandbox on the host; gVisor's clock of processes shows nothing of it");
    row_ulimits();
    return;
  }
  static pid_t children[5000];
  int count = 0, most = (int)number("pids");
  while (count < 5000 && (children[count] = fork()) > 0) count++;
  if (count < 5000 && children[count] == 0) { pause(); _exit(0); }
  const char *why = count < 5000 ? strerrorname_np(errno) : "none";
  for (int i = 0; i < count; i++) kill(children[i], SIGKILL);
  for (int i = 0; i < count; i++) waitpid(children[i], 0, 0);
  line("9", "pids", is(why, "EAGAIN") && count < most, "%d children, then %s; the limit is %d", count, why, most);

  double quota = atof(read_file("/sys/fs/cgroup/cpu.max")), period = 0;
  const char *max = read_file("/sys/fs/cgroup/cpu.max");
  if (*max) { const char *space = strchr(max, ' '); period = space ? atof(space) : 0; }
  else {
    quota = atof(read_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"));
    period = atof(read_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
  }
  struct timespec begun, now;
  struct rusage used;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  for (int i = 0; i < 4; i++) if (fork() == 0) for (;;) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 > 600) _exit(0);
  }
  while (wait(0) > 0) {}
  getrusage(RUSAGE_CHILDREN, &used);
  clock_gettime(CLOCK_MONOTONIC, &now);
  double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  double wall = (now.tv_sec - begun.tv_sec) + (now.tv_nsec - begun.tv_nsec) / 1e9, allowed = number("cpu_milli") / 1000.0;
  int set = period > 0 ? quota / period <= allowed * 1.01 : 0;
  /* What was used before counts too, and a period may be used at its end and the next at its beginning. */
  line("10", "cpu", set && cpu <= (wall + 0.4) * allowed * 1.3, "quota %.2f cores; four spinners used %.2f s of %.2f s", period > 0 ? quota / period : -1, cpu, wall);

  row_ulimits();
}

/* 13 and 14: no network, and which sockets there are. */
static void rows_network(void) {
  char names[256] = "", *all = strdup(read_file("/proc/net/dev")), *rest = all, *entry;
  int count = 0;
  while ((entry = strsep(&rest, "\n"))) {
    char *colon = strchr(entry, ':');
    if (!colon) continue;
    *colon = 0;
    count++;
    size_t have = strlen(names);
    snprintf(names + have, sizeof names - have, "%s%s", have ? " " : "", entry + strspn(entry, " "));
  }
  free(all);
  int loopback = is(word("sockets"), "loopback");
  struct sockaddr_in outside = { .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(0xC0000201) };
  int s = socket(AF_INET, SOCK_STREAM, 0);
  const char *way = s < 0 ? came(s) : came(connect(s, (struct sockaddr *)&outside, sizeof outside));
  if (s >= 0) close(s);
  outside.sin_addr.s_addr = htonl(0xA9FEA9FE); /* 169.254.169.254, where clouds keep secrets */
  s = socket(AF_INET, SOCK_STREAM, 0);
  const char *metadata = s < 0 ? came(s) : came(connect(s, (struct sockaddr *)&outside, sizeof outside));
  if (s >= 0) close(s);
  int refused = gvisor() ? !is(way, "ok") && !is(metadata, "ok") : loopback ? is(way, "ENETUNREACH") && is(metadata, "ENETUNREACH") : is(way, "EPERM") && is(metadata, "EPERM");
  line("13", "no network", count == 1 && is(names, "lo") && refused, "interfaces: %s; outside %s, metadata %s", names, way, metadata);

  struct { const char *name; int family, type, protocol, tcp; } table[] = {
    { "unix", AF_UNIX, SOCK_STREAM, 0, 2 }, { "inet tcp", AF_INET, SOCK_STREAM, 0, 1 }, { "inet6 tcp", AF_INET6, SOCK_STREAM, IPPROTO_TCP, 1 },
    { "inet udp", AF_INET, SOCK_DGRAM, 0, 0 }, { "inet6 udp", AF_INET6, SOCK_DGRAM, 0, 0 }, { "inet raw", AF_INET, SOCK_RAW, IPPROTO_ICMP, 0 },
    { "inet mptcp", AF_INET, SOCK_STREAM, 262, 0 }, { "inet sctp", AF_INET, SOCK_STREAM, 132, 0 }, { "inet seqpacket", AF_INET, SOCK_SEQPACKET, 0, 0 },
    { "netlink", AF_NETLINK, SOCK_RAW, 0, 0 }, { "packet", AF_PACKET, SOCK_RAW, 0, 0 }, { "vsock", AF_VSOCK, SOCK_STREAM, 0, 0 },
    { "alg", AF_ALG, SOCK_SEQPACKET, 0, 0 }, { "bluetooth", AF_BLUETOOTH, SOCK_RAW, 0, 0 }, { "xdp", AF_XDP, SOCK_RAW, 0, 0 },
    { "can", AF_CAN, SOCK_RAW, 0, 0 }, { "tipc", AF_TIPC, SOCK_RAW, 0, 0 }, { "unspec", AF_UNSPEC, SOCK_STREAM, 0, 0 },
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    int one = socket(table[i].family, table[i].type, table[i].protocol);
    const char *what = came(one);
    if (one >= 0) close(one);
    int allowed = table[i].tcp == 2 || (table[i].tcp == 1 && loopback);
    char name[64];
    snprintf(name, sizeof name, "socket %s", table[i].name);
    if (gvisor() && !allowed) line("14", name, is(what, "ok") ? SKIP : OK, "%s, in gVisor's kernel, whose network is lo alone", what);
    else line("14", name, is(what, allowed ? "ok" : "EPERM"), "%s", what);
  }
  int pair[2];
  const char *what = came(socketpair(AF_INET, SOCK_STREAM, 0, pair));
  line("14", "socketpair inet", gvisor() ? !is(what, "ok") : is(what, "EPERM"), "%s", what);
}

static void rows_gateway(void) {
  struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "/run/gw/gw.sock" };
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  const char *reached = came(connect(s, (struct sockaddr *)&at, sizeof at));
  close(s);
  const char *create = make("/run/gw/other"), *away = came(unlink("/run/gw/gw.sock")), *over = came(rename("/run/gw/gw.sock", "/run/gw/x"));
  const char *other = gvisor() ? "EACCES" : "EROFS";
  int ok = is(reached, "ok") && ONE_OF(create, "EROFS", other) && ONE_OF(away, "EROFS", other) && ONE_OF(over, "EROFS", other);
  line("15", "gateway socket", ok, "connect %s, create %s, unlink %s, rename %s", reached, create, away, over);
}
static int socket_file(const char *path, const struct stat *facts, int kind, struct FTW *where) {
  (void)where;
  if (kind == FTW_F && S_ISSOCK(facts->st_mode) && !is(path, "/run/gw/gw.sock")) note_path(path);
  return 0;
}
static void row_host_sockets(void) {
  found_count = 0; found_paths[0] = 0;
  const char *folders[] = { "/", "/run", "/run/gw", "/var", "/tmp", "/session", "/workspace", 0 };
  for (int i = 0; folders[i]; i++) nftw(folders[i], socket_file, 16, FTW_PHYS | FTW_MOUNT);
  /* An abstract socket of another network namespace would stand here. */
  int abstract = 0;
  char *all = strdup(read_file("/proc/net/unix")), *rest = all, *entry;
  while ((entry = strsep(&rest, "\n"))) abstract += strstr(entry, " @") != 0;
  free(all);
  const char *docker = came(access("/var/run/docker.sock", F_OK)), *containerd = came(access("/run/containerd/containerd.sock", F_OK));
  int ok = !found_count && !abstract && is(docker, "ENOENT") && is(containerd, "ENOENT");
  line("16", "no host sockets", ok, "docker.sock %s, containerd.sock %s, %d other sockets, %d abstract %s", docker, containerd, found_count, abstract, found_paths);
}

static void rows_kernel(void) {
  const char *hidden[] = { "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/sched_debug", "/proc/latency_stats", 0 };
  char open_ones[256] = "", byte;
  for (int i = 0; hidden[i]; i++) {
    int file = open(hidden[i], O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, &byte, 1) > 0) strncat(open_ones, hidden[i], sizeof open_ones - strlen(open_ones) - 1);
    if (file >= 0) close(file);
  }
  DIR *firmware = opendir("/sys/firmware");
  int entries = 0;
  for (struct dirent *e; firmware && (e = readdir(firmware));) entries += e->d_name[0] != '.';
  if (firmware) closedir(firmware);
  const char *pattern = came(open("/proc/sys/kernel/core_pattern", O_WRONLY)), *trigger = came(open("/proc/sysrq-trigger", O_WRONLY));
  int ok = !*open_ones && !entries && ONE_OF(pattern, "EACCES", "EROFS", "ENOENT", "EPERM") && ONE_OF(trigger, "EACCES", "EROFS", "ENOENT", "EPERM");
  line("17", "masked paths", ok, "readable: %s; %d entries in /sys/firmware; core_pattern %s, sysrq-trigger %s", *open_ones ? open_ones : "none", entries, pattern, trigger);

  const char *spaces[] = { "net", "pid", "mnt", "uts", "ipc", "cgroup", 0 };
  char same[128] = "";
  int known = 0;
  for (int i = 0; spaces[i]; i++) {
    char path[64], key[32], id[128] = "";
    snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
    snprintf(key, sizeof key, "ns_%s", spaces[i]);
    if (readlink(path, id, sizeof id - 1) < 0) continue;
    const char *hosts = word(key);
    known += *hosts != 0;
    if (*hosts && strstr(id, hosts)) { strncat(same, spaces[i], sizeof same - strlen(same) - 1); strcat(same, " "); }
  }
  const char *shm = came(access("/dev/shm", F_OK));
    if (gvisor()) line("18", "namespaces", SKIP, "gVisor's kernel has namespaces of its own");
  else line("18", "namespaces", known == 6 && !*same && is(shm, "ENOENT"), "%d compared, the host's: %s; /dev/shm %s", known, *same ? same : "none", shm);

  char map[64];
  unsigned long inside = 1, outside = 1, length = 1;
  snprintf(map, sizeof map, "%.60s", read_file("/proc/self/uid_map"));
  sscanf(map, "%lu %lu %lu", &inside, &outside, &length);
  int remapped = !(inside == 0 && outside == 0 && length == 4294967295UL);
  if (remapped) line("19", "user namespace", OK, "root inside is %lu outside", outside);
  else line("19", "user namespace", SKIP, "not active: the engine runs without userns-remap");

  char *label = strdup(read_file("/proc/self/attr/current"));
  label[strcspn(label, "\n")] = 0;
  if (!*label || is(label, "unconfined")) line("20", "AppArmor or SELinux", SKIP, "no profile is active: %s", *label ? label : "this kernel has no such module");
  else line("20", "AppArmor or SELinux", OK, "%s", label);
  free(label);

  char first[64];
  snprintf(first, sizeof first, "%.60s", read_file("/proc/1/comm"));
  first[strcspn(first, "\n")] = 0;
  line("21", "init", is(first, "custody-worker"), "PID 1 is %s", first);

  char names[512] = "";
  int strange = 0;
  for (char **e = environ; *e; e++) {
    int length = (int)strcspn(*e, "=");
    size_t have = strlen(names);
    snprintf(names + have, sizeof names - have, "%s%.*s", have ? " " : "", length, *e);
    strange += strncmp(*e, "PATH=", 5) && strncmp(*e, "HOME=", 5);
  }
  line("22", "environment", !strange, "%s", names);

  const char *harmless[] = { "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "stderr", "stdin", "stdout", "tty", "urandom", "zero", "shm", 0 };
  char nodes[512] = "";
  int unknown = 0, null_there = 0;
  DIR *devices = opendir("/dev");
  for (struct dirent *e; devices && (e = readdir(devices));) {
    if (e->d_name[0] == '.') continue;
    size_t have = strlen(nodes);
    snprintf(nodes + have, sizeof nodes - have, "%s%s", have ? " " : "", e->d_name);
    /* gVisor's own, which lead to nothing of the host's. */
    unknown += !one_of(e->d_name, harmless) && !(gvisor() && ONE_OF(e->d_name, "net", "fuse"));
    null_there |= is(e->d_name, "null");
  }
  if (devices) closedir(devices);
  line("23", "devices", null_there && !unknown, "%s", nodes);

  const char *groups[] = { "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cgroup.procs",
                           "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.subtree_control", 0 };
  char writable[256] = "";
  for (int i = 0; groups[i]; i++) {
    int file = open(groups[i], O_WRONLY | O_CLOEXEC);
    if (file >= 0) { close(file); strncat(writable, groups[i], sizeof writable - strlen(writable) - 1); }
  }
  const char *create = came(mkdir("/sys/fs/cgroup/probe", 0700));
  line("24", "control groups", !*writable && !is(create, "ok"), "writable: %s; mkdir %s", *writable ? writable : "none", create);

  struct utsname kernel;
  uname(&kernel);
  line("28", "kernel", OK, "%s %s", kernel.sysname, kernel.release);
}

/* 4.2: what the kernel must refuse. gVisor's kernel has its own answers: anything but "ok" is right there. */
static void refused(const char *name, const char *what, const char *wanted) {
    char control[64];
  snprintf(control, sizeof control, "call %s", name);
  if (gvisor()) line("4.2", control, is(what, "ok") ? SKIP : OK, "%s, in gVisor's kernel", what);
  else line("4.2", control, is(what, wanted), "%s", what);
}
static void rows_calls(void) {
  char name[] = "/x";
#define REFUSED(nr, ...) refused(#nr, came(syscall(SYS_##nr, ##__VA_ARGS__)), "EPERM")
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
  REFUSED(mknodat, AT_FDCWD, "/tmp/node", S_IFCHR | 0600, 0x103);
  REFUSED(settimeofday, 0, name);
  REFUSED(clock_settime, -1, 0);
  REFUSED(adjtimex, 0);
  REFUSED(sethostname, 0, -1);
  REFUSED(quotactl, 0, 0, 0, 0);
  REFUSED(acct, name);
  REFUSED(swapon, name, 0);
  REFUSED(reboot, 0, 0, 0, 0);
  REFUSED(syslog, -1, 0, 0);
#ifdef SYS_lookup_dcookie
  REFUSED(lookup_dcookie, 0, 0, 0);
#endif
  REFUSED(memfd_create, "x", 0);
  REFUSED(setxattr, "/session", "user.x", "1", 1, 0);
  REFUSED(shmget, 0, 4096, 01600);
  REFUSED(mq_open, "x", O_CREAT, 0600, 0);
  REFUSED(fsopen, "tmpfs", 0);
  REFUSED(open_tree, AT_FDCWD, "/x", 0);
  REFUSED(move_mount, -1, "", -1, "", 0);
  REFUSED(mount_setattr, -1, "", 0, 0, 0);
  REFUSED(pidfd_getfd, -1, 0, 0);
  refused("personality", came(syscall(SYS_personality, 0x0040000UL)), "EPERM");
  refused("clone3", came(syscall(SYS_clone3, 0, 0)), "ENOSYS");
  if (gvisor()) return; /* Debian's release of 2022 hangs in a clone with a new mount namespace. */
  long flags[] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP };
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    char key[32];
    long child = syscall(SYS_clone, flags[i] | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    snprintf(key, sizeof key, "clone %08lx", flags[i]);
    refused(key, came(child), "EPERM");
  }
#ifdef __x86_64__
  /* getpid of the 32-bit table: no second door to socketcall and friends. */
  int code = 0;
  pid_t child = fork();
  if (child == 0) {
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    _exit(result > 0 ? 0 : 1);
  }
  waitpid(child, &code, 0);
  refused("int80", WIFSIGNALED(code) && WTERMSIG(code) == SIGSYS ? "SIGSYS" : WIFEXITED(code) && WEXITSTATUS(code) == 0 ? "ok" : "refused", "SIGSYS");
#endif
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) if (is(arguments[i], "--") && i + 1 < count) prompt = arguments[i + 1];
  if (is(word("mode"), "memory")) {
    for (long long sum = 0; sum < (64LL << 30); sum += 1 << 20) {
      char *more = malloc(1 << 20);
      if (!more) break;
      memset(more, 1, 1 << 20);
    }
    return 0;
  }
  if (is(word("mode"), "sleep")) for (;;) pause();
  if (is(word("sockets"), "")) {
    fprintf(stderr, "custody-probe: the prompt says nothing of this box; run: custody doctor --sandbox\n");
    return 2;
  }
  /* Time for whoever looks from outside. */
  usleep((useconds_t)(number("hold_ms") > 5000 ? 5000 : number("hold_ms")) * 1000);
  row_identity();
  rows_status();
  rows_files();
  rows_mounts();
  rows_limits();
  rows_network();
  rows_gateway();
  row_host_sockets();
  rows_kernel();
  rows_calls();
  return surprises ? 1 : 0;
}
