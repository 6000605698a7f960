// The three fakes of this product, for its own tests and for those of programs that use it: a node played
// from a recording, a host whose nth call fails, and one that lets another act before it.

export type { ActingHost } from './machine/acting.js';
export { actingHost } from './machine/acting.js';
export type { WaitOptions } from './machine/deadline.js';
export type { FailingHost, FailingOptions } from './machine/failing.js';
export { failingHost } from './machine/failing.js';
export type { Directory, Entry, EntryKind, FileStat, Host } from './machine/host.js';
export type { RecordedAnswer, RecordedCall, RecordedStat, RecordingHeader } from './machine/recording.js';
export { recordedHost, recordedStat, recordingHost } from './machine/recording.js';
export type { Connection } from './machine/socket.js';
export type { HostCall, WatchedHost } from './machine/watched-host.js';
