import * as vscode from 'vscode';

const TOKEN = 'midfill.token';

/** Where completions come from: the endpoint in the settings, its API key in the secret storage. */
export class Service {
  constructor(private readonly secrets: vscode.SecretStorage) {}

  get endpoint(): string {
    return vscode.workspace.getConfiguration('midfill').get('endpoint', 'local');
  }

  /** What the language server needs beyond the settings. */
  async environment(): Promise<Record<string, string>> {
    const token = await this.secrets.get(TOKEN);
    return token ? { MIDFILL_TOKEN: token } : {};
  }

  async useLocal(): Promise<void> {
    await setEndpoint(undefined);
  }

  /** Asks for the URL of a service and then for its key. */
  async useTeam(): Promise<void> {
    const url = await vscode.window.showInputBox({
      title: 'Midfill: URL of your service',
      placeHolder: 'https://midfill.example.org',
      value: this.endpoint === 'local' ? '' : this.endpoint,
      validateInput: (text) => (/^https?:\/\/[^\s/]+/.test(text) ? undefined : 'Expected http://… or https://…'),
      ignoreFocusOut: true,
    });
    if (url) {
      if (url !== this.endpoint) {
        await this.signOut(); // the key of one service is not shown to another
      }
      await setEndpoint(url);
      await this.signIn();
    }
  }

  /** Asks for the API key and keeps it. */
  async signIn(): Promise<void> {
    if (this.endpoint === 'local') {
      return this.useTeam();
    }
    const token = await vscode.window.showInputBox({
      title: `Midfill: API key of ${this.endpoint}`,
      prompt: 'Kept in the secret storage. Press Escape if the service needs none.',
      password: true,
      ignoreFocusOut: true,
    });
    if (token) {
      await this.secrets.store(TOKEN, token.trim());
    }
  }

  async signOut(): Promise<void> {
    await this.secrets.delete(TOKEN);
  }

  /** Calls `changed` when a key was stored or removed, in this window or another. */
  onDidChangeKey(changed: () => void): vscode.Disposable {
    return this.secrets.onDidChange(({ key }) => key === TOKEN && changed());
  }
}

async function setEndpoint(url: string | undefined): Promise<void> {
  const target = vscode.ConfigurationTarget.Global;
  await vscode.workspace.getConfiguration('midfill').update('endpoint', url, target);
}
