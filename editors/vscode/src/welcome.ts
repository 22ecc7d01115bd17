import * as vscode from 'vscode';

const WELCOMED = 'welcomed';

/** On the first start: the walkthrough, or, not to disturb somebody who is at work, an offer to show it. */
export async function welcome(state: vscode.Memento): Promise<void> {
  if (state.get(WELCOMED)) {
    return;
  }
  await state.update(WELCOMED, true);
  const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
  if (!tabs.some((tab) => tab.input instanceof vscode.TabInputText)) {
    return showWalkthrough();
  }
  const show = 'Show how to start';
  if ((await vscode.window.showInformationMessage('Midfill is installed: type, and Tab accepts.', show)) === show) {
    await showWalkthrough();
  }
}

export async function showWalkthrough(): Promise<void> {
  await vscode.commands.executeCommand('workbench.action.openWalkthrough', 'midfill.midfill#start');
}
