/** A real browser without a window, steered over its debugging protocol. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { WebSocket } from 'ws';

type Message = { id?: number; method?: string; result?: unknown; error?: { message: string } };

// https://chromedevtools.github.io/devtools-protocol/
export class Browser {
  readonly #child: ChildProcess;
  readonly #dir: string;
  readonly #socket: WebSocket;
  #lastId = 0;

  private constructor(child: ChildProcess, dir: string, socket: WebSocket) {
    this.#child = child;
    this.#dir = dir;
    this.#socket = socket;
  }

  /** With an empty profile, and one blank page. */
  static async start(): Promise<Browser> {
    const dir = mkdtempSync(join(tmpdir(), 'atmos-browser-'));
    const quiet = ['--disable-background-networking', '--disable-component-update', '--disable-sync'];
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', ...quiet];
    const more = ['--remote-debugging-port=0', `--user-data-dir=${dir}`, '--window-size=1200,900'];
    const child = spawn('chromium', [...flags, ...more, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    const port = await debuggingPort(child);
    const targets = await fetch(`http://127.0.0.1:${port}/json`);
    const [page] = ((await targets.json()) as { type: string; webSocketDebuggerUrl: string }[]).filter(
      ({ type }) => type === 'page',
    );
    const socket = new WebSocket(page!.webSocketDebuggerUrl);
    await once(socket, 'open');
    const browser = new Browser(child, dir, socket);
    await browser.#call('Page.enable', {});
    return browser;
  }

  /** Resolves when the page has loaded. */
  async open(url: string): Promise<void> {
    await this.#loading(() => this.#call('Page.navigate', { url }));
  }

  /** What a click leads to has loaded. @param words of the button or link */
  async click(words: string): Promise<void> {
    const found = `[...document.querySelectorAll('button, a')].find((one) => one.textContent.trim() === ${JSON.stringify(words)})`;
    await this.#loading(() => this.evaluate(`${found}.click()`));
  }

  /** Into the field of that name, as a person does it. */
  async type(name: string, text: string): Promise<void> {
    await this.evaluate(`document.querySelector('[name=${name}]').focus()`);
    await this.#call('Input.insertText', { text });
  }

  async text(): Promise<string> {
    return (await this.evaluate('document.body.innerText')) as string;
  }

  /** The value of an expression in the page. @throws Error when it throws there */
  async evaluate(expression: string): Promise<unknown> {
    const answer = (await this.#call('Runtime.evaluate', { expression })) as {
      result: { value?: unknown };
      exceptionDetails?: { exception?: { description?: string } };
    };
    if (answer.exceptionDetails)
      throw new Error(answer.exceptionDetails.exception?.description ?? expression);
    return answer.result.value;
  }

  /** A PNG. */
  async screenshot(width = 1200, height = 900): Promise<Buffer> {
    await this.#call('Emulation.setDeviceMetricsOverride', {
      ...{ width, height, deviceScaleFactor: 1, mobile: false },
    });
    const { data } = (await this.#call('Page.captureScreenshot', {})) as { data: string };
    return Buffer.from(data, 'base64');
  }

  async close(): Promise<void> {
    this.#socket.close();
    const gone = once(this.#child, 'exit');
    // Its children too: the browser is many processes.
    process.kill(-this.#child.pid!, 'SIGKILL');
    await gone;
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  async #loading(act: () => Promise<unknown>): Promise<void> {
    const loaded = this.#message(({ method }) => method === 'Page.loadEventFired');
    await act();
    await loaded;
  }

  async #call(method: string, params: object): Promise<unknown> {
    const id = ++this.#lastId;
    const answered = this.#message((message) => message.id === id);
    this.#socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  #message(isIt: (message: Message) => boolean): Promise<Message> {
    return new Promise((resolve) => {
      const look = (data: Buffer) => {
        const message = JSON.parse(data.toString()) as Message;
        if (!isIt(message)) return;
        this.#socket.off('message', look);
        resolve(message);
      };
      this.#socket.on('message', look);
    });
  }
}

async function debuggingPort(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stderr! })) {
    const [, port] = /^DevTools listening on ws:\/\/[^:]+:(\d+)/.exec(line) ?? [];
    if (port) return port;
  }
  throw new Error('the browser did not start');
}
