// Processes that do what they are told while this one waits: they fork, get and lose threads, end, or come to the world
// with a certain pid (clone3(2) with set_tid: no other process of this machine is concerned). One program makes and ends
// them all, through pipes that block: what is asked has been done when the call comes back.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';

/** Nothing that a killed search left behind lives longer. */
const lifetimeSeconds = 300;

const program = String.raw`
  use strict; use POSIX (); use Socket; use Errno ();
  my $threaded = eval { require threads; 1 };
  my ($lifetime, $exit, @pipes) = @ARGV;
  $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE';
  open my $in, '<', $pipes[0] or die; open my $out, '+>', $pipes[1] or die;
  my %lines;

  sub comes { my ($is) = @_; for (1 .. 250) { return 1 if $is->(); select undef, undef, undef, 0.002 } return 0 }
  # A zombie that another parent is to collect is dead, unless only its first thread is.
  sub lives {
    open my $f, '<', "/proc/$_[0]/stat" or return 0;
    my @fields = split ' ', (split /\) /, <$f> // '')[-1] // '';
    return @fields && !($fields[0] =~ /[ZX]/ && $fields[17] <= 1);
  }
  sub state_of { open my $f, '<', "/proc/$_[0]/stat" or return ''; my $text = <$f> // ''; return $text =~ /\) (\w)/ ? $1 : '' }

  sub born {
    my ($pid) = @_;
    return fork unless $pid;
    my $tid = pack 'i', $pid;
    my $got;
    # The pid of one that has just died is free a moment later.
    comes(sub {
      $got = syscall 435, pack('Q11', 0, 0, 0, 0, 17, 0, 0, 0, unpack('Q', pack 'p', $tid), 1, 0), 88;
      return $got >= 0 || !$!{EEXIST} || lives($pid);
    });
    return $got < 0 ? undef : $got;
  }

  sub start {
    my ($uid, $pid, $name, $file, @places) = @_;
    socketpair my $ours, my $its, AF_UNIX, SOCK_STREAM, PF_UNSPEC or return "failed $!";
    my $got = born($pid);
    return "failed $!" unless defined $got;
    if ($got == 0) {
      close $_ for $in, $out, $ours, values %lines;
      $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'DEFAULT';
      alarm $lifetime;
      for (@places) { open my $f, '>', $_ or POSIX::_exit(1); syswrite $f, '0' or POSIX::_exit(1); close $f }
      if ($uid) { $) = "$uid $uid"; POSIX::setgid($uid); POSIX::setuid($uid) }
      $0 = $name;
      syswrite $its, "ready\n";
      if ($file) { exec { $file } $name, $lifetime or POSIX::_exit(1) }
      live($its);
      POSIX::_exit(0);
    }
    close $its;
    $lines{$got} = $ours;
    my $said = heard($ours, 5);
    return $said eq 'ready' ? $got : "failed: $said";
  }

  sub live {
    my ($line) = @_;
    while (sysread $line, my $word, 64) {
      chomp $word;
      if ($word eq 'fork') {
        my $child = fork;
        unless ($child) { close $line; alarm $lifetime; sleep $lifetime; POSIX::_exit(0) }
        syswrite $line, "$child\n";
      } elsif ($word eq 'thread' || $word eq 'drop') {
        threads->create(sub { select undef, undef, undef, 1 while 1 })->detach;
        syswrite $line, "done\n";
        syscall $exit, 0 if $word eq 'drop';
      }
    }
  }

  sub heard {
    my ($line, $seconds) = @_;
    my $bits = ''; vec($bits, fileno($line), 1) = 1;
    return 'silent' unless select $bits, undef, undef, $seconds;
    my $got = sysread $line, my $text, 64;
    return 'gone' unless $got;
    chomp $text;
    return $text;
  }

  sub tell_it {
    my ($pid, $word) = @_;
    return 'without threads' if !$threaded && $word ne 'fork';
    my $line = $lines{$pid} or return 'gone';
    syswrite $line, "$word\n" or return 'gone';
    my $said = heard($line, 0.5);
    comes(sub { state_of($pid) eq 'Z' }) if $word eq 'drop' && $said eq 'done';
    return $said;
  }

  sub end {
    my ($signal, @pids) = @_;
    kill $signal, $_ for @pids;
    comes(sub { !grep { lives($_) } @pids });
    my @left = grep { lives($_) } @pids;
    for my $pid (@pids) { delete $lines{$pid} unless lives($pid) }
    return "left @left";
  }

  while (defined(my $text = <$in>)) {
    chomp $text;
    my ($do, @with) = split /\t/, $text;
    my $answer = $do eq 'start' ? start(@with) : $do eq 'tell' ? tell_it(@with) : end(@with);
    syswrite $out, "$answer\n";
  }
`;

/** exit(2), which ends one thread: include/uapi/asm-generic/unistd.h, on x86 a number of its own. */
const exitNumber = process.arch === 'x64' ? 60 : 93;

export interface NewPuppet {
  readonly uid: number;
  /** Its `comm`. */
  readonly name: string;
  /** cgroup.procs or tasks of the cgroups that it moves itself into. */
  readonly places: readonly string[];
  /** The pid it gets, where it is free. */
  readonly pid?: number;
  /** A program that it becomes, which takes a number of seconds; then it hears nothing any more. */
  readonly program?: string;
}

/** A program with two pipes: a line in, a line out, and this process waits for it. */
export class Obedient {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #asks: number;
  readonly #answers: number;

  constructor(file: string, args: readonly string[]) {
    this.#folder = fs.mkdtempSync('/run/slurm-cgroups-test-pipes-');
    const pipes = ['asks', 'answers'].map((name) => `${this.#folder}/${name}`);
    spawnSync('mkfifo', pipes);
    const [asks = -1, answers = -1] = pipes.map((pipe) => fs.openSync(pipe, 'r+'));
    this.#asks = asks;
    this.#answers = answers;
    this.#child = spawn(file, [...args, ...pipes], { stdio: ['ignore', 'ignore', 'inherit'], cwd: '/' });
    this.#child.unref();
  }

  ask(line: string): string {
    fs.writeSync(this.#asks, `${line}\n`);
    const piece = Buffer.alloc(65_536);
    let answer = '';
    while (!answer.endsWith('\n')) answer += piece.toString('utf8', 0, fs.readSync(this.#answers, piece));
    return answer.trimEnd();
  }

  /** It reads the end of its orders, and ends. */
  close(): void {
    this.#child.kill('SIGKILL');
    for (const fd of [this.#asks, this.#answers]) fs.closeSync(fd);
    fs.rmSync(this.#folder, { recursive: true });
  }
}

export class Puppets {
  readonly #master = new Obedient('perl', ['-e', program, String(lifetimeSeconds), String(exitNumber)]);

  /** `undefined`: its pid is another's. */
  start({ uid, name, places, pid = 0, program: file = '' }: NewPuppet): number | undefined {
    const answer = this.#master.ask(['start', uid, pid, name, file, ...places].join('\t'));
    return /^\d+$/.test(answer) ? Number(answer) : undefined;
  }

  /** The pid of its new child. */
  fork(pid: number): number | undefined {
    const answer = this.#master.ask(`tell\t${pid}\tfork`);
    return /^\d+$/.test(answer) ? Number(answer) : undefined;
  }

  /** Whether it has a thread more. */
  addThread(pid: number): boolean {
    return this.#master.ask(`tell\t${pid}\tthread`) === 'done';
  }

  /** Whether its first thread has ended, and another waits. */
  dropFirstThread(pid: number): boolean {
    return this.#master.ask(`tell\t${pid}\tdrop`) === 'done';
  }

  /** Those that are still there: a frozen v1 cgroup keeps them. */
  end(pids: readonly number[], signal: 'KILL' | 'TERM' | 'STOP' | 'CONT' = 'KILL'): readonly number[] {
    if (pids.length === 0) return [];
    const left = this.#master.ask(['end', signal, ...pids].join('\t'));
    return left.split(' ').slice(1).map(Number);
  }

  close(): void {
    this.#master.close();
  }
}
