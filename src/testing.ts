// The two fakes of this product, for its own tests and for those of programs that use it: a node played
// from a recording, and a host whose nth call fails.

export type { FailingHost, FailingOptions } from './cgroup/failing.js';
export { failingHost } from './cgroup/failing.js';
export type { Directory, Entry, EntryKind, FileStat, Host } from './cgroup/host.js';
export type { RecordedAnswer, RecordingHeader } from './cgroup/recording.js';
export { recordedHost, recordedStat, recordingHost } from './cgroup/recording.js';
export type { Connection, WaitOptions } from './cgroup/socket.js';
