// What this machine lets a test do.

/** Real cgroups need root. In CI a test that cannot run must not pass. */
export const canUseCgroups: boolean = process.getuid?.() === 0;
export const mayBeSkipped: boolean = process.env['CI'] !== 'true';
