// Turns captures of real Slurm nodes (text files: cgroup tree, memberships, spool) into recordings that
// recordedHost() plays: node convert.mjs FIXTURES_DIR OUT_DIR. The same files always give the same recordings.
// What a Host must answer and no capture holds is made up here, and named in each recording's `about`.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';

/** Captures of one node at different moments; every other file of its folder belongs to `tree`. */
const moments = {
  tree: '',
  'tree-before-adoption': 'before-adoption',
  'tree-after-ls': 'after-ls',
  'tree-after-reclaim': 'after-reclaim',
};

const cgroupRoot = '/sys/fs/cgroup';
const labFolder = '/var/spool/lab';
const kinds = { directory: 0o040000, file: 0o100000, symlink: 0o120000, socket: 0o140000 };
/** Of file systems whose numbers were not captured; no cgroup mount of a capture has one of these. */
const devices = { root: 19, sys: 20, proc: 21, run: 24 };
const gids = { root: 0, alice: 1001, bob: 1002 };
/** Start times were not captured; pids were given in order, and this is about their pace on these nodes. */
const ticksPerPid = 5;

function main([fixtures, out]) {
  if (fixtures === undefined || out === undefined) {
    process.stderr.write('usage: node convert.mjs FIXTURES_DIR OUT_DIR\n');
    return 2;
  }
  fs.mkdirSync(out, { recursive: true });
  for (const name of fs.readdirSync(fixtures).sort()) {
    for (const [file, moment] of Object.entries(moments)) {
      const folder = path.join(fixtures, name);
      if (!fs.existsSync(path.join(folder, `${file}.txt`))) continue;
      const answers = recordingOf(captureOf(folder, name, file, moment));
      fs.writeFileSync(
        path.join(out, `${[name, moment].filter((part) => part !== '').join('.')}.jsonl`),
        `${answers.map((answer) => JSON.stringify(answer)).join('\n')}\n`,
      );
    }
  }
  return 0;
}

// ------------------------------------------------------------------------------------- reading a capture

function captureOf(folder, name, treeFile, moment) {
  const text = (file, type = 'txt') => {
    const where = path.join(folder, `${file}.${type}`);
    return fs.existsSync(where) ? fs.readFileSync(where, 'utf8') : undefined;
  };
  const lines = (file, type) => (text(file, type) ?? '').split('\n').filter((line) => line !== '');
  const mountinfo = text('mountinfo');
  const processes = processesOf(lines('proc-cgroup'));
  const adopted = moment === 'before-adoption' ? adoptedOf(processes) : undefined;
  const spool = spoolOf(lines('spool'), lines('spool-stat'));
  const left = (pid) => adopted === undefined || pid < adopted;
  return {
    name,
    moment,
    readme: text('README'),
    mountinfo,
    mounts: mountsOf(mountinfo),
    systemd: mountinfo.includes('nsdelegate'),
    v2: mountinfo.split('\n')[0].includes('cgroup2'),
    procCgroups: text('proc-cgroups'),
    times: timesOf([...lines(treeFile), ...lines('tree-outside')]),
    /** Directories of any moment: each keeps its inode from one to the next. */
    everSeen: [...timesOf([...Object.keys(moments).flatMap((file) => lines(file)), ...lines('tree-outside')]).keys()],
    processes: processes.filter(({ pid }) => left(pid)),
    adopted,
    self: processes.at(-1).pid + 10,
    members: membersOf([...lines('procs'), ...lines('controllers')], left),
    spool,
    daemons: daemonsOf(lines('stepd', 'jsonl'), spool),
    spoolTimed: text('spool-stat') !== undefined,
    twoNodes: lines('spool').some((line) => line.startsWith('vm1/')),
  };
}

/** Cgroup mounts, and the tmpfs above them on v1. */
function mountsOf(mountinfo) {
  return mountinfo
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [, , numbers, , where] = line.split(' ');
      const [type, , options] = line.split(' - ')[1].split(' ');
      const controllers = options.split(',').filter((option) => option !== 'rw');
      const key = type === 'cgroup2' ? 'unified' : controllers.join(',');
      return { type, key, where, dev: Number(numbers.split(':')[1]) };
    });
}

function processesOf(lines) {
  const processes = [];
  for (const line of lines) {
    const head = /^# pid (\d+) uid (\d+) comm (.*)$/.exec(line);
    if (head === null) processes.at(-1).memberships.push(line);
    else processes.push({ pid: Number(head[1]), uid: Number(head[2]), comm: head[3], memberships: [] });
  }
  return processes.sort((a, b) => a.pid - b.pid);
}

/** The last process that came into an extern step: it was started and adopted between the two captures. */
function adoptedOf(processes) {
  return Math.max(
    ...processes
      .filter(({ memberships }) => memberships.some((line) => line.includes('/step_extern')))
      .map(({ pid }) => pid),
  );
}

/** Lines of `find -printf '%P %T@'`. */
function timesOf(lines) {
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), nanoseconds(line.slice(at + 1))];
    }),
  );
}

/** find writes ten decimals; the tenth is no part of the time. */
function nanoseconds(seconds) {
  const [whole, decimals] = seconds.split('.');
  return `${whole}${decimals.slice(0, 9)}`;
}

/** Lines of procs.txt and controllers.txt: a path, then key=value,value. */
function membersOf(lines, left) {
  return new Map(
    lines.map((line) => {
      const [where, ...fields] = line.split(' ');
      const lists = fields.map((field) => {
        const [key, value] = field.split('=');
        const list = value.split(',').filter((item) => item !== '');
        return [key, key === 'procs' || key === 'tasks' ? list.map(Number).filter(left) : list];
      });
      return [where, Object.fromEntries(lists)];
    }),
  );
}

function spoolOf(lines, statLines) {
  const stats = new Map(
    statLines.map((line) => {
      const [where, bits, uid, gid, mtime, ctime] = line.split(/ (?:mode|uid|gid|mtime|ctime)=/);
      return [
        where,
        { bits: Number.parseInt(bits, 8), uid, gid, mtimeNs: nanoseconds(mtime), ctimeNs: nanoseconds(ctime) },
      ];
    }),
  );
  const usual = { socket: 0o777, directory: 0o750, file: 0o600 };
  const spool = lines.map((line) => {
    const [where, , group, ...type] = line.split(' ');
    const kind = type.at(-1) ?? kindByName(path.basename(where));
    return { where, kind, bits: usual[kind], uid: 0, gid: gids[group], stat: stats.get(where) };
  });
  // The list with types leaves out what lies in the jobs' folders: their scripts.
  const scripts = spool
    .filter(({ kind }) => kind === 'directory')
    .map(({ where, gid }) => ({ where: `${where}/slurm_script`, kind: 'file', bits: 0o700, uid: gid, gid: 0 }))
    .map((script) => ({ ...script, stat: stats.get(script.where) }));
  return [...spool, ...scripts];
}

/** Each slurmstepd by pid, with the time of the socket that it made when it started. */
function daemonsOf(answers, spool) {
  const timeOf = new Map(spool.map(({ where, stat }) => [path.basename(where), stat?.mtimeNs]));
  return answers
    .map((line) => JSON.parse(line))
    .map(({ daemon, socket }) => ({ pid: daemon, startNs: BigInt(timeOf.get(socket)) }))
    .sort((a, b) => a.pid - b.pid);
}

function kindByName(name) {
  if (name.startsWith('vm_')) return 'socket';
  return /^job\d+$/.test(name) ? 'directory' : 'file';
}

// ------------------------------------------------------------------------------------ writing a recording

/** Collects answers; a listing is made from the paths that were named below it. */
function recordingOf(capture) {
  const answers = [];
  const all = [...capture.processes, ...companionsOf(capture)].sort((a, b) => a.pid - b.pid);
  const node = {
    ...capture,
    all,
    /** A time for what has none of its own: the earliest that the capture shows. */
    someTimeNs: [...capture.times.values()].reduce((a, b) => (BigInt(a) < BigInt(b) ? a : b)),
    read: (where, text) => answers.push({ read: where, text }),
    list: (where, entries) => answers.push({ list: where, entries: sorted(entries) }),
    link: (where, to) => answers.push({ link: where, to }),
    stat: (where, kind, bits, rest) => {
      const { uid = 0, gid = 0, dev = devices.root, ino, nlink = 1, size = 0, mtimeNs, ctimeNs = mtimeNs } = rest;
      answers.push({
        stat: where,
        is: [kinds[kind] | bits, uid, gid, dev, ino, nlink, size, mtimeNs, ctimeNs].map(String),
      });
    },
  };
  recordProc(node);
  recordCgroups(node);
  recordFolders(node);
  recordSpool(node);
  return [
    { recording: 'slurm-cgroups', version: 1, about: aboutOf(capture), self: { pid: node.self, uid: 0 } },
    ...answers,
  ];
}

/** pid 1 and the process that looks: every node has them, the captures leave them out. */
function companionsOf({ processes, systemd, self }) {
  const elsewhere = (v2path) =>
    processes[0].memberships.map((line) => {
      const [id, controllers, where] = splitMembership(line);
      if (id === '0' && controllers === '' && systemd) return `0::${v2path}`;
      return `${id}:${controllers}:${where.includes('slurm') ? '/' : where}`;
    });
  return [
    { pid: 1, uid: 0, comm: systemd ? 'systemd' : 'bash', memberships: elsewhere('/init.scope') },
    { pid: self, uid: 0, comm: 'node', memberships: elsewhere('/system.slice/lab.service') },
  ];
}

function splitMembership(line) {
  const [, id, controllers, where] = /^(\d+):([^:]*):(.*)$/.exec(line);
  return [id, controllers, where];
}

const executables = {
  bash: '/usr/bin/bash',
  node: '/usr/local/bin/node',
  slurm_script: '/usr/bin/dash',
  slurmctld: '/usr/sbin/slurmctld',
  slurmd: '/usr/sbin/slurmd',
  slurmscriptd: '/usr/sbin/slurmctld',
  slurmstepd: '/usr/sbin/slurmstepd',
  sshd: '/usr/sbin/sshd',
  systemd: '/usr/lib/systemd/systemd',
};

/** Clock ticks since boot: of a slurmstepd by its socket, of others right after the slurmstepd before them. */
function startTicks(pid, daemons) {
  const before = daemons.findLast((one) => one.pid <= pid);
  if (before === undefined) return pid * ticksPerPid;
  // The boot that gives none of them a start before its pid's turn.
  const boots = daemons.map((one) => one.startNs - BigInt(one.pid * ticksPerPid) * 10_000_000n);
  const [bootNs] = boots.sort((a, b) => (a < b ? -1 : 1));
  return Number((before.startNs - bootNs) / 10_000_000n) + (before.pid === pid ? 0 : 1);
}

function recordProc({ mountinfo, procCgroups, all, self, daemons, someTimeNs, read, list, link, stat }) {
  list('/proc', {
    ...Object.fromEntries(all.map(({ pid }) => [pid, 'directory'])),
    cgroups: 'file',
    mounts: 'symlink',
    net: 'symlink',
    self: 'symlink',
    sys: 'directory',
    uptime: 'file',
  });
  read('/proc/self/mountinfo', mountinfo);
  if (procCgroups !== undefined) read('/proc/cgroups', procCgroups);
  const uptime = Math.max(...all.map(({ pid }) => startTicks(pid, daemons))) / 100 + 5;
  read('/proc/uptime', `${uptime.toFixed(2)} ${uptime.toFixed(2)}\n`);
  read('/proc/sys/kernel/hostname', 'vm\n');
  link('/proc/self', String(self));
  for (const { pid, uid, comm, memberships } of all) {
    const parent = pid === 1 ? 0 : 1;
    const cgroup = `${memberships.join('\n')}\n`;
    const four = [uid, uid, uid, uid].join('\t');
    const status = [
      `Name:\t${comm}`,
      'State:\tS (sleeping)',
      `Tgid:\t${pid}`,
      'Ngid:\t0',
      `Pid:\t${pid}`,
      `PPid:\t${parent}`,
      'TracerPid:\t0',
      `Uid:\t${four}`,
      `Gid:\t${four}`,
      'Threads:\t1',
      '',
    ].join('\n');
    // proc_pid_stat(5) from field 3: 18 is the priority, 20 the threads, 22 the start, 52 the last.
    const counters = [
      'S',
      parent,
      pid,
      pid,
      0,
      -1,
      0,
      ...Array(8).fill(0),
      20,
      0,
      1,
      0,
      startTicks(pid, daemons),
      ...Array(30).fill(0),
    ];
    for (const name of pid === self ? [pid, 'self'] : [pid]) {
      read(`/proc/${name}/cgroup`, cgroup);
      read(`/proc/${name}/status`, status);
      read(`/proc/${name}/comm`, `${comm}\n`);
      read(`/proc/${name}/stat`, `${pid} (${comm}) ${counters.join(' ')}\n`);
      link(`/proc/${name}/exe`, executables[comm] ?? `/usr/bin/${comm}`);
      list(`/proc/${name}/task`, { [pid]: 'directory' });
    }
    stat(`/proc/${pid}`, 'directory', 0o555, {
      uid,
      gid: uid,
      dev: devices.proc,
      ino: 1_000_000 + pid,
      nlink: 9,
      mtimeNs: someTimeNs,
    });
  }
}

function recordCgroups(node) {
  const { mounts, times, everSeen, members, all, someTimeNs, read, list, link, stat } = node;
  const tmpfs = mounts.find(({ type }) => type === 'tmpfs');
  const hierarchies = mounts.filter(({ type }) => type !== 'tmpfs');
  if (tmpfs !== undefined) {
    const names = hierarchies.map(({ where }) => path.basename(where));
    const aliases = names
      .filter((name) => name.includes(','))
      .flatMap((name) => name.split(',').map((alias) => [alias, name]));
    list(
      cgroupRoot,
      Object.fromEntries([
        ...names.map((name) => [name, 'directory']),
        ...aliases.map(([alias]) => [alias, 'symlink']),
      ]),
    );
    stat(cgroupRoot, 'directory', 0o755, { dev: tmpfs.dev, ino: 1, nlink: 2 + names.length, mtimeNs: someTimeNs });
    for (const [index, [alias, name]] of aliases.entries()) {
      link(`${cgroupRoot}/${alias}`, name);
      stat(`${cgroupRoot}/${alias}`, 'symlink', 0o777, {
        dev: tmpfs.dev,
        ino: 2 + index,
        size: name.length,
        mtimeNs: someTimeNs,
      });
    }
  }
  for (const mount of hierarchies) {
    const version = mount.type === 'cgroup2' ? 2 : 1;
    // A captured path begins below the folder of all mounts: with the mount's name on v1, without on v2.
    const prefix = mount.where === cgroupRoot ? '' : `${path.basename(mount.where)}`;
    const captured = (place) => [prefix, place.slice(1)].filter((part) => part !== '').join('/');
    const placeOf = new Map(all.map(({ pid, memberships }) => [pid, placeIn(mount, memberships)]));
    const places = placesIn(prefix, [...times.keys()], [...placeOf.values()]);
    const inodes = new Map(placesIn(prefix, everSeen, [...placeOf.values()]).map((place, index) => [place, index + 1]));
    const isBelow = (place, above) => above === '/' || place === above || place.startsWith(`${above}/`);
    const scope = [...members.keys()].find((where) => where.endsWith('slurmstepd.scope'));
    const offered =
      version === 2 && prefix === '' ? (members.get(scope)?.controllers ?? ['cpuset', 'cpu', 'memory', 'pids']) : [];
    for (const place of places) {
      const where = place === '/' ? mount.where : `${mount.where}${place}`;
      const recorded = members.get(captured(place));
      const children = places.filter((other) => other !== '/' && path.posix.dirname(other) === place);
      const pids = recorded?.procs ?? all.map(({ pid }) => pid).filter((pid) => placeOf.get(pid) === place);
      const lines = (numbers) => numbers.map((number) => `${number}\n`).join('');
      const files = { 'cgroup.procs': lines(pids) };
      if (version === 1) {
        files.tasks = lines(recorded?.tasks ?? pids);
        if (mount.key === 'freezer' && place !== '/') files['freezer.state'] = 'THAWED\n';
      } else {
        // What a cgroup may use is what its parent hands down; recorded below the scope, followed above it.
        const handsDown = recorded?.subtree ?? (children.length > 0 ? offered : []);
        files['cgroup.controllers'] = `${(recorded?.controllers ?? offered).join(' ')}\n`;
        files['cgroup.subtree_control'] = `${handsDown.join(' ')}\n`;
        if (place !== '/') {
          const populated = [...placeOf.values()].some((other) => isBelow(other, place));
          files['cgroup.type'] = `${(recorded?.type ?? ['domain'])[0].replaceAll('_', ' ')}\n`;
          files['cgroup.events'] = `populated ${populated ? 1 : 0}\nfrozen 0\n`;
          files['cgroup.freeze'] = '0\n';
        }
      }
      list(
        where,
        Object.fromEntries([
          ...children.map((child) => [path.basename(child), 'directory']),
          ...Object.keys(files).map((file) => [file, 'file']),
        ]),
      );
      stat(where, 'directory', 0o755, {
        dev: mount.dev,
        ino: inodes.get(place),
        nlink: 2 + children.length,
        mtimeNs: times.get(captured(place)) ?? someTimeNs,
      });
      for (const [file, text] of Object.entries(files)) read(`${where}/${file}`, text);
    }
  }
}

/** Where a process is in one hierarchy. */
function placeIn(mount, memberships) {
  for (const line of memberships) {
    const [id, controllers, where] = splitMembership(line);
    if (mount.key === 'unified' ? id === '0' : controllers === mount.key) return where;
  }
  return '/';
}

/** Every directory of a hierarchy, parents first: the captured ones, those that hold a process, all above them. */
function placesIn(prefix, captured, occupied) {
  const below = captured
    .filter((where) => prefix === '' || where.startsWith(`${prefix}/`))
    .map((where) => (prefix === '' ? `/${where}` : where.slice(prefix.length)));
  const places = new Set(['/']);
  for (const leaf of [...below, ...occupied]) {
    for (let place = leaf; place !== '/'; place = path.posix.dirname(place)) places.add(place);
  }
  return [...places].sort(byName);
}

/** The folders that lead to what matters; a listing says what is not there (no /cgroup, no /run/slurm). */
function recordFolders(node) {
  const { systemd, twoNodes, all, someTimeNs, list, read, stat } = node;
  const folders = {
    '/': {
      etc: 'directory',
      proc: 'directory',
      run: 'directory',
      sys: 'directory',
      usr: 'directory',
      var: 'directory',
    },
    '/etc': { slurm: 'directory' },
    '/etc/slurm': { 'cgroup.conf': 'file', 'slurm.conf': 'file' },
    '/run': {
      munge: 'directory',
      slurmctld: 'directory',
      sshd: 'directory',
      ...(systemd ? { systemd: 'directory' } : {}),
    },
    '/var': { spool: 'directory' },
    '/var/spool': { lab: 'directory' },
    [labFolder]: {
      ...(twoNodes ? { vm1: 'directory', vm2: 'directory' } : { spool: 'directory' }),
      state: 'directory',
    },
  };
  let ino = 2;
  for (const [where, entries] of Object.entries(folders)) {
    list(where, entries);
    stat(where, 'directory', 0o755, {
      dev: where === '/run' ? devices.run : devices.root,
      ino: ino++,
      nlink: 2 + Object.values(entries).filter((kind) => kind === 'directory').length,
      mtimeNs: someTimeNs,
    });
  }
  for (const where of ['/sys', '/sys/fs'])
    stat(where, 'directory', 0o755, { dev: devices.sys, ino: ino++, nlink: 3, mtimeNs: someTimeNs });
  stat('/proc', 'directory', 0o555, { dev: devices.proc, ino: 1, nlink: 2 + all.length, mtimeNs: someTimeNs });
  for (const [file, text] of Object.entries(configuration(node))) {
    read(`/etc/slurm/${file}`, text);
    stat(`/etc/slurm/${file}`, 'file', 0o644, { ino: ino++, size: text.length, mtimeNs: someTimeNs });
  }
  const programs = [...new Set(all.map(({ comm }) => executables[comm] ?? `/usr/bin/${comm}`))].sort(byName);
  const parents = new Set(['/usr']);
  for (const program of programs) {
    for (let folder = path.dirname(program); folder !== '/usr'; folder = path.dirname(folder)) parents.add(folder);
  }
  for (const folder of [...parents].sort(byName))
    stat(folder, 'directory', 0o755, { ino: ino++, nlink: 2, mtimeNs: someTimeNs });
  for (const program of programs) stat(program, 'file', 0o755, { ino: ino++, size: 100_000, mtimeNs: someTimeNs });
}

/** As the lab wrote it for that release, init and cgroup version. */
function configuration({ name, v2, systemd, twoNodes }) {
  const release = Number(/^slurm-(\d+\.\d+)/.exec(name)[1]);
  const node = (which) =>
    `NodeName=${which} ${twoNodes ? 'NodeHostname=vm ' : ''}NodeAddr=127.0.0.1 ${twoNodes ? 'Port=[17001-17002] ' : ''}CPUs=2 CoresPerSocket=2 RealMemory=2000 State=UNKNOWN`;
  const slurm = [
    'ClusterName=lab',
    'SlurmctldHost=vm(127.0.0.1)',
    'SlurmUser=slurm',
    'SlurmdUser=root',
    'AuthType=auth/munge',
    `StateSaveLocation=${labFolder}/state`,
    `SlurmdSpoolDir=${labFolder}/${twoNodes ? '%n' : 'spool'}`,
    'SlurmctldLogFile=/var/log/lab/ctld.log',
    `SlurmdLogFile=/var/log/lab/slurmd${twoNodes ? '.%n' : ''}.log`,
    'SlurmctldPidFile=/run/slurmctld/slurmctld.pid',
    `SlurmdPidFile=/run/slurmd${twoNodes ? '.%n' : ''}.pid`,
    'ProctrackType=proctrack/cgroup',
    'TaskPlugin=task/cgroup',
    'JobAcctGatherType=jobacct_gather/cgroup',
    'PrologFlags=contain',
    'SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0',
    'LaunchParameters=use_interactive_step',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_Core',
    'SlurmdDebug=debug2',
    'ReturnToService=2',
    'MpiDefault=none',
    'KillWait=30',
    '',
    '',
    '',
    node(twoNodes ? 'vm[1-2]' : 'vm'),
    'PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8',
    '',
  ];
  const v1 = [
    ...(release < 22 ? [] : ['CgroupPlugin=cgroup/v1']),
    ...(release < 23 ? ['CgroupAutomount=no'] : []),
    'CgroupMountpoint=/sys/fs/cgroup',
    'ConstrainCores=yes',
    'ConstrainDevices=yes',
    ...(release === 22.05 ? [] : ['ConstrainRAMSpace=yes']),
  ];
  const jobIdPaths = name.endsWith('-jobidpaths');
  const unified = [
    `CgroupPlugin=${jobIdPaths ? 'autodetect' : 'cgroup/v2'}`,
    'ConstrainCores=yes',
    'ConstrainDevices=yes',
    'ConstrainRAMSpace=yes',
    ...(systemd ? [] : ['IgnoreSystemd=yes']),
    ...(jobIdPaths ? ['CgroupJobIdPaths=yes'] : []),
  ];
  return { 'cgroup.conf': `${(v2 ? unified : v1).join('\n')}\n`, 'slurm.conf': slurm.join('\n') };
}

function recordSpool({ spool, twoNodes, times, someTimeNs, list, stat }) {
  const base = twoNodes ? labFolder : `${labFolder}/spool`;
  const roots = twoNodes ? ['vm1', 'vm2'] : [''];
  const isIn = (folder) => (file) => (path.dirname(file.where) === '.' ? '' : path.dirname(file.where)) === folder;
  const timeOf = (file) => file.stat?.mtimeNs ?? stepTimeNs(file.where, times) ?? someTimeNs;
  const folders = [...roots, ...spool.filter(({ kind }) => kind === 'directory').map(({ where }) => where)];
  for (const folder of folders) {
    const inside = spool.filter(isIn(folder));
    list(
      folder === '' ? base : `${base}/${folder}`,
      Object.fromEntries(inside.map(({ where, kind }) => [path.basename(where), kind])),
    );
  }
  for (const [index, root] of roots.entries()) {
    const latest = spool
      .filter(isIn(root))
      .map(timeOf)
      .reduce((a, b) => (BigInt(a) > BigInt(b) ? a : b));
    stat(root === '' ? base : `${base}/${root}`, 'directory', 0o755, { ino: 500 + index, nlink: 2, mtimeNs: latest });
  }
  for (const [index, file] of spool.entries()) {
    const { bits = file.bits, uid = file.uid, gid = file.gid, ctimeNs = timeOf(file) } = file.stat ?? {};
    stat(`${base}/${file.where}`, file.kind, bits, {
      uid,
      gid,
      ino: 600 + index,
      nlink: file.kind === 'directory' ? 2 : 1,
      mtimeNs: timeOf(file),
      ctimeNs,
    });
  }
}

const specialSteps = { 4294967290: 'interactive', 4294967291: 'batch', 4294967292: 'extern' };

/** Where the spool's times were not captured: the earliest time of the step's own directories. */
function stepTimeNs(where, times) {
  const socket = /(?:vm_|hwloc_topo_)(\d+)\.(\d+)(?:\.xml)?$/.exec(where);
  const folder = /job0*(\d+)(?:\/slurm_script)?$/.exec(where);
  const job = socket?.[1] ?? folder?.[1];
  if (job === undefined) return undefined;
  const step = socket === null ? 'batch' : (specialSteps[socket[2]] ?? socket[2]);
  const found = [...times].filter(([place]) => place.endsWith(`/job_${job}/step_${step}`)).map(([, timeNs]) => timeNs);
  return found.length === 0 ? undefined : found.reduce((a, b) => (BigInt(a) < BigInt(b) ? a : b));
}

// ------------------------------------------------------------------------------------------------- about

const unnamed = {
  'slurm-22.05-v1': 'slurm 22.05 (Debian 12) kernel 6.18, cgroup v1 with an empty v2 hierarchy beside it (hybrid)',
  'slurm-22.05-v2': 'slurm 22.05 (Debian 12) kernel 6.1, pure v2 without systemd (IgnoreSystemd=yes)',
};

const momentsInWords = {
  'before-adoption': ({ adopted }) =>
    `Seconds before process ${adopted} was adopted: it is left out, since where it was then was not captured.`,
  'after-ls': () => 'The same jobs after "ls -lR" on the scope: no process and no directory changed, only mtimes.',
  'after-reclaim': () =>
    'The same jobs after the kernel dropped unused inodes: no process and no directory changed, only mtimes.',
};

/** The node in words: the first paragraph of its README, then what was captured and what was made up. */
function aboutOf(capture) {
  const { name, moment, readme, members, spoolTimed, procCgroups, systemd, v2, daemons } = capture;
  const what =
    readme === undefined
      ? `${unnamed[name]}.`
      : readme
          .split(/\n(?:tree\.txt|mountinfo\.txt):| tree-after-reclaim\.txt:| Files as in/)[0]
          .trim()
          .replace('\n', '. ');
  const captured = [
    'the cgroup lines of the mount table',
    `directories of Slurm's cgroups${v2 && name !== 'slurm-22.05-v2' ? ' and of the others' : ''} with mtimes`,
    'pid, uid, name and memberships of the processes under Slurm, ssh and user.slice',
    ...(members.size === 0
      ? []
      : [
          v2
            ? 'cgroup.type, controllers, subtree_control and procs below the scope'
            : "cgroup.procs and tasks of Slurm's cgroups",
        ]),
    ...(procCgroups === undefined ? [] : ['/proc/cgroups']),
    spoolTimed ? 'the spool folder with owners and times' : 'names and owners in the spool folder',
  ];
  const synthesized = [
    'inodes, ctimes and owners of cgroups',
    'link counts',
    'device numbers outside cgroup mounts',
    `parents, groups, threads, states, flags and start times of processes${daemons.length > 0 ? " (a slurmstepd's by its socket)" : ''}`,
    'exe and the files it names',
    'uptime',
    'slurm.conf and cgroup.conf (after the scripts and notes of the lab that made the node)',
    `pid 1 (${systemd ? 'systemd' : 'bash'}) and the recording process`,
    'cgroup.procs and times of cgroups outside Slurm as far as not captured',
    ...(v2
      ? ['cgroup.freeze and cgroup.events', 'controllers above the scope']
      : ['freezer.state', 'tasks of mount roots', 'links in /sys/fs/cgroup']),
    ...(members.size === 0
      ? [v2 ? 'cgroup.type, controllers and procs (from memberships)' : 'cgroup.procs and tasks (from memberships)']
      : []),
    ...(spoolTimed
      ? ['the spool folder itself']
      : ['modes and times in the spool (from the directories of each step)']),
    'other folders',
  ];
  const words = moment === '' ? [] : [momentsInWords[moment](capture)];
  return [
    what,
    ...words,
    `Recorded on a real node: ${captured.join('; ')}.`,
    `Synthesized: ${synthesized.join('; ')}.`,
  ].join(' ');
}

function sorted(entries) {
  return Object.fromEntries(Object.entries(entries).sort(([a], [b]) => byName(a, b)));
}

function byName(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

process.exitCode = main(process.argv.slice(2));
