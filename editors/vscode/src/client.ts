import * as vscode from 'vscode';
import { type Executable, LanguageClient, RevealOutputChannelOn, State } from 'vscode-languageclient/node';
import { CLIENT_SETTINGS } from './server';
import type { Shown } from './shown';
import type { ServerStatus, Status } from './status';

const DOCUMENTS = ['file', 'untitled', 'vscode-remote', 'vscode-notebook-cell'].map((scheme) => ({ scheme }));

/** A language client whose troubles go to the output and the status bar, never into a popup. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

/** The client, not yet started. */
export function createClient(
  server: Executable,
  output: vscode.LogOutputChannel,
  status: Status,
  shown: Shown,
): LanguageClient {
  const client = new QuietClient('midfill', 'Midfill', server, {
    documentSelector: DOCUMENTS,
    outputChannel: output,
    revealOutputChannelOn: RevealOutputChannelOn.Never,
    middleware: {
      ...shown.middleware,
      workspace: {
        configuration: async (params, token, next) => {
          const sections = await next(params, token);
          return Array.isArray(sections) ? sections.map(withoutClientSettings) : sections;
        },
      },
    },
  });
  client.onNotification('didChangeStatus', (state: ServerStatus) => status.show(state));
  client.onDidChangeState(({ newState }) => {
    void vscode.commands.executeCommand('setContext', 'midfill.running', newState === State.Running);
    if (newState === State.Stopped) {
      status.show({ busy: false, kind: 'Error', message: 'the language server is not running' });
    }
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

function withoutClientSettings(section: unknown): unknown {
  if (typeof section !== 'object' || section === null) {
    return section;
  }
  return Object.fromEntries(Object.entries(section).filter(([key]) => !CLIENT_SETTINGS.includes(key)));
}
