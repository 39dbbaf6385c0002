/** What the tables measure: a mail system that takes submissions and delivers them to a sink. */

export type Running = {
  /** Where it takes submissions on 127.0.0.1. */
  port: number;
  /** Absent where it asks for neither TLS nor a login. */
  auth?: { user: string; pass: string };
  /** All it consists of; their children count too. */
  pids: number[];
  /** Recipients are at this domain. */
  recipientDomain: string;
  /** Where verifiers find the keys of its signatures; absent where nothing is signed. */
  records?: DnsText[];
  stop(): Promise<void>;
};

export type Surroundings = {
  /** A folder of its own, on the same file system for all. */
  dir: string;
  /** Where every destination is. */
  sinkPort: number;
  /** PEM files of the certificate that all show to clients. */
  tls: { keyFile: string; certFile: string };
  dkim: DkimKeys;
};

/** Two RSA-2048 keys, of the sender's domain and of the pool's. */
export type DkimKeys = { domain: string; selector: string; keyFile: string; text: DnsText }[];

export type DnsText = { name: string; value: string };

export type System = {
  /** For options: `--system postfix`. */
  key: string;
  name: string;
  /** The reason why it cannot run here. */
  missing(): string | false;
  start(around: Surroundings): Promise<Running>;
};

export const senderDomain = 'bench.test';
export const poolDomain = 'pool.test';
export const recipientDomain = 'dest.test';
export const login = { user: 'member@bench.test', pass: 'a-password-of-the-bench' };

/** For a look at our own process: `ATMOS_BENCH_NODE_FLAGS='--cpu-prof --cpu-prof-dir=/tmp/prof'`. */
export const nodeFlags = process.env.ATMOS_BENCH_NODE_FLAGS?.split(' ') ?? [];
