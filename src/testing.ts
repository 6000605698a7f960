// The two fakes of this product, for its own tests and for those of programs that use it: a node played
// from a recording, and a host whose nth call fails.

export type { WaitOptions } from './machine/deadline.js';
export type { FailingHost, FailingOptions, HostCall } from './machine/failing.js';
export { failingHost } from './machine/failing.js';
export type { Directory, Entry, EntryKind, FileStat, Host } from './machine/host.js';
export type { RecordedAnswer, RecordedCall, RecordedStat, RecordingHeader } from './machine/recording.js';
export { recordedHost, recordedStat, recordingHost } from './machine/recording.js';
export type { Connection } from './machine/socket.js';
