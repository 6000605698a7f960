// Before the tests in a guest.

import process from 'node:process';
import fc from 'fast-check';

process.env['PROGRAM_IS_BUILT'] = 'true'; // it came with the repository, which is read-only there

// Every case of a property costs twenty times what it costs on the host, where they all ran already.
fc.configureGlobal({ numRuns: 5 });

// Each of those costs seconds there.
process.env['INTERLEAVINGS'] ??= '3';
