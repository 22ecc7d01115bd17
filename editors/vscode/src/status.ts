import * as vscode from 'vscode';

/** What the server says with `didChangeStatus`. */
export interface ServerStatus {
  busy: boolean;
  message?: string;
  kind: 'Normal' | 'Warning' | 'Error' | 'Inactive';
}

const ICONS = { Normal: 'sparkle', Warning: 'warning', Error: 'error', Inactive: 'circle-slash' };

/** The status bar item: the only place where trouble with the service is told. */
export class Status implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem('midfill.status', vscode.StatusBarAlignment.Right, 100);

  constructor() {
    this.item.name = 'Midfill';
    this.item.command = 'midfill.showMenu';
    this.show({ busy: true, kind: 'Normal', message: 'starting' });
    this.item.show();
  }

  show({ busy, kind, message }: ServerStatus): void {
    this.item.text = `$(${busy ? 'loading~spin' : ICONS[kind]}) Midfill`;
    this.item.tooltip = message ? `Midfill: ${message}` : 'Midfill';
    this.item.backgroundColor =
      kind === 'Error' ? new vscode.ThemeColor('statusBarItem.warningBackground') : undefined;
  }

  dispose(): void {
    this.item.dispose();
  }
}
