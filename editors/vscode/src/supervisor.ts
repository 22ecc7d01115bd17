import * as vscode from 'vscode';
import { type LanguageClient, State } from 'vscode-languageclient/node';
import { createClient, focus } from './client';
import { findServer } from './command';
import type { Service } from './service';
import { Shown } from './shown';
import type { Status } from './status';

const LONGEST_DELAY_S = 60;

/** Keeps one language server running: starts and stops happen one after the other, crashes are followed by a start. */
export class Supervisor {
  readonly shown = new Shown(() => this.running);
  /** Where the server came from, in words. */
  origin = 'not found yet';
  private client: LanguageClient | undefined;
  private turn: Promise<void> = Promise.resolve();
  private retry: NodeJS.Timeout | undefined;
  private crashes = 0;
  private startedAt = 0;

  constructor(
    private readonly extensionPath: string,
    private readonly service: Service,
    private readonly output: vscode.LogOutputChannel,
    private readonly status: Status,
  ) {}

  get running(): LanguageClient | undefined {
    return this.client?.state === State.Running ? this.client : undefined;
  }

  /** Whether the running server has this command. */
  has(command: string): boolean {
    return this.running?.initializeResult?.capabilities.executeCommandProvider?.commands.includes(command) ?? false;
  }

  /** A start that was asked for: earlier crashes are forgotten. */
  restart(): Promise<void> {
    this.crashes = 0;
    return this.inTurn(() => this.start());
  }

  stop(): Promise<void> {
    return this.inTurn(() => this.end());
  }

  private inTurn(step: () => Promise<void>): Promise<void> {
    clearTimeout(this.retry);
    this.turn = this.turn.then(step);
    return this.turn;
  }

  private async start(): Promise<void> {
    await this.end();
    this.status.show({ busy: true, kind: 'Normal', message: 'starting' });
    try {
      const { command, args, origin } = await findServer(this.extensionPath);
      this.origin = origin;
      this.output.info(`Language server: ${origin}`);
      const env = { ...process.env, ...(await this.service.environment()) };
      const client = createClient({ command, args, options: { env } }, this.output, this.shown, {
        status: (state) => this.status.show(state),
        ended: () => this.client === client && this.crashed(),
      });
      this.client = client;
      this.startedAt = Date.now();
      await client.start();
      focus(client, vscode.window.activeTextEditor);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.output.error(`The language server did not start: ${reason}`);
      this.status.show({ busy: false, kind: 'Error', message: `the language server did not start: ${reason}` });
    }
  }

  private async end(): Promise<void> {
    const running = this.client;
    this.client = undefined;
    try {
      await running?.dispose();
    } catch {
      // A server that never started, or does not answer any more, cannot be stopped: there is nothing to undo.
    }
  }

  private crashed(): void {
    if (Date.now() - this.startedAt > LONGEST_DELAY_S * 1000) {
      this.crashes = 0;
    }
    const delay = Math.min(2 ** this.crashes++, LONGEST_DELAY_S);
    const message = `the language server stopped, it is started again in ${delay} s (see the output)`;
    this.status.show({ busy: false, kind: 'Error', message });
    clearTimeout(this.retry);
    this.retry = setTimeout(() => void this.inTurn(() => this.start()), delay * 1000);
  }
}
