// The words of a login's reply: what the user reads, what the administrators' log gets, and what the module is told of the
// job beside its cgroups.

import { defined } from '../machine/defined.js';
import { quote } from '../machine/errors.js';
import type { Rule } from '../policy/answer.js';
import { type AdoptionOptions, logLevels } from '../policy/options.js';
import type { JobSetting } from './job-setting.js';
import { bareReply, type LoginReply, type LoginRequest, type LogLine } from './login-protocol.js';
import type { AdoptionRecord } from './record.js';

/** What the site says to a user who is refused, by the rule that refused. */
export type SiteMessages = Readonly<Partial<Record<Rule, string>>>;

export interface Answer {
  readonly action: LoginReply['action'];
  readonly rule: Rule;
  readonly reason: string;
  readonly trace: readonly string[];
}

/** Of a session that is in no job. */
export function plainReply(
  request: LoginRequest,
  answer: Answer,
  { options, messages }: { readonly options: AdoptionOptions; readonly messages: SiteMessages },
  record?: AdoptionRecord,
): LoginReply {
  const { action, reason } = answer;
  return {
    ...bareReply,
    ...{ action, reason },
    log: logLines(request, answer, options, record),
    messages: messagesFor(answer, messages),
  };
}

export function inJob(jobId: number | undefined): string {
  const job = jobId === undefined ? 'a job of yours' : `job ${jobId}`;
  return `This session is in ${job}: it has its limits, and ends with it`;
}

export function notInJob({ reason, adoption }: Pick<AdoptionRecord, 'reason' | 'adoption'>): string {
  return `${reason}: this session is ${adoption?.outcome === 'partial' ? 'only partly in its job' : 'in no job'}`;
}

/** What the module reads of it. */
export function settingIn(
  { x11, stepd, namespaces }: JobSetting,
  { joinContainer }: AdoptionOptions,
): Pick<LoginReply, 'display' | 'xauthority' | 'stepd' | 'namespaces'> {
  const isAtOnce = joinContainer === 'account' && namespaces !== 'none';
  return {
    ...(x11?.display === undefined ? {} : { display: `localhost:${x11.display}.0` }),
    ...defined({ xauthority: x11?.xauthority, stepd }),
    namespaces: [
      ...(namespaces === 'unknown' ? (['unknown'] as const) : []),
      ...(isAtOnce ? (['account'] as const) : []),
    ],
  };
}

function messagesFor({ action, rule, reason }: Answer, messages: SiteMessages): readonly string[] {
  if (action !== 'deny') return [];
  return [messages[rule] ?? `Access denied by pam_slurm_cgroups: ${lowerFirst(reason)}`];
}

function lowerFirst(text: string): string {
  return `${text[0]?.toLowerCase() ?? ''}${text.slice(1)}`;
}

/** Of syslog(3). */
export const severities = { error: 3, info: 6, debug: 7 } as const;

/** What an administrator reads, as much as log_level says. The words of pam_slurm_adopt where it has some. */
function logLines(
  { user }: LoginRequest,
  { action, reason, trace }: Answer,
  { logLevel }: AdoptionOptions,
  record?: AdoptionRecord,
): readonly LogLine[] {
  const upTo = logLevels.indexOf(logLevel);
  const says = (level: (typeof logLevels)[number]) => upTo >= logLevels.indexOf(level);
  const adopted =
    record?.adoption?.outcome === 'adopted' && record.target?.kind === 'job'
      ? [`Process ${record.process.pid} adopted into job ${record.target.jobId ?? record.target.sluid}`]
      : [];
  const failure = record?.adoption?.error?.message;
  return [
    ...(says('info')
      ? [`Connection by user ${quote(user).slice(1, -1)}: ${action}: ${reason}`, ...adopted].map((line) => ({
          severity: severities.info,
          line,
        }))
      : []),
    ...(failure !== undefined && says('error') ? [{ severity: severities.error, line: failure }] : []),
    ...(says('verbose') ? trace.map((line) => ({ severity: severities.info, line })) : []),
    ...(says('debug') && record !== undefined
      ? [
          {
            severity: severities.debug,
            line: `stages in ms: ${JSON.stringify(record.stagesMs)}, ${record.totalMs} in all`,
          },
        ]
      : []),
  ];
}
