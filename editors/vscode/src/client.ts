import * as vscode from 'vscode';
import {
  CloseAction,
  ErrorAction,
  type Executable,
  LanguageClient,
  RevealOutputChannelOn,
  State,
} from 'vscode-languageclient/node';
import { CLIENT_SETTINGS } from './command';
import { forServer, isWanted } from './overrides';
import type { Shown } from './shown';
import type { ServerStatus } from './status';

export const DOCUMENTS = ['file', 'untitled', 'vscode-remote', 'vscode-notebook-cell'].map((scheme) => ({ scheme }));

/** A language client whose troubles go to the output and the status bar, never into a popup. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

/** What the client tells, besides completions. */
export interface Listener {
  status(state: ServerStatus): void;
  /** The server ended without being told to. */
  ended(): void;
}

/** The client, not yet started. */
export function createClient(
  server: Executable,
  output: vscode.LogOutputChannel,
  shown: Shown,
  listener: Listener,
): LanguageClient {
  const client = new QuietClient('midfill', 'Midfill', server, {
    documentSelector: DOCUMENTS,
    outputChannel: output,
    revealOutputChannelOn: RevealOutputChannelOn.Never,
    // The server asks for them, too. But on a busy machine it may give up waiting, and must not fall back to defaults.
    initializationOptions: () => serversPart(vscode.workspace.getConfiguration('midfill')),
    errorHandler: {
      error: () => ({ action: ErrorAction.Continue, handled: true }),
      closed: () => {
        listener.ended();
        return { action: CloseAction.DoNotRestart, handled: true };
      },
    },
    middleware: {
      provideInlineCompletionItems: (document, position, context, token, next) =>
        isWanted(document, context) ? shown.provide(document, position, context, token, next) : [],
      workspace: {
        configuration: async (params, token, next) => {
          const sections = await next(params, token);
          return Array.isArray(sections) ? sections.map(serversPart) : sections;
        },
      },
    },
  });
  client.onNotification('didChangeStatus', (state: ServerStatus) => listener.status(state));
  client.onDidChangeState(({ newState }) => {
    void vscode.commands.executeCommand('setContext', 'midfill.running', newState === State.Running);
  });
  return client;
}

/** Tells the server which document the user looks at. */
export function focus(client: LanguageClient | undefined, editor: vscode.TextEditor | undefined): void {
  if (client?.state === State.Running && editor && vscode.languages.match(DOCUMENTS, editor.document)) {
    const uri = client.code2ProtocolConverter.asUri(editor.document.uri);
    void client.sendNotification('textDocument/didFocus', { textDocument: { uri } });
  }
}

/** A section comes with its methods when it is not read for the server. */
function isSetting(key: string, value: unknown): boolean {
  return typeof value !== 'function' && !CLIENT_SETTINGS.includes(key);
}

function serversPart(section: unknown): unknown {
  if (typeof section !== 'object' || section === null) {
    return section;
  }
  return forServer(Object.fromEntries(Object.entries(section).filter(([key, value]) => isSetting(key, value))));
}
