/*
 * switch_x86_64.S -- everything that must be assembly: the context switch, the
 * checkpoint a panic lands on, the call of a deferred function, and the entry
 * of a hardware fault.  Nothing else.
 *
 * A suspended context is its stack pointer; from there upwards:
 *
 *     mxcsr, x87 control word   8 bytes
 *     r15 r14 r13 r12 rbx rbp   48
 *     return address            8
 *
 * The switch leaves by ret.  Goroutines park at a handful of places in the
 * runtime, so the address the return predictor remembers from the other context
 * is mostly right; and its stack stays in step, so that the returns after this
 * one are predicted too.  Leaving by jmp was measured: a yield took 26 ns, not 14.
 */

        .text

/* void rt_switch(void **save, void *to) */
        .globl  rt_switch
        .hidden rt_switch
        .type   rt_switch, @function
        .p2align 4
rt_switch:
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r15, 0
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
.Lrestore:
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbp
        ret
        .cfi_endproc
        .size   rt_switch, .-rt_switch

/* noreturn void rt_jump(void *to): rt_switch without saving */
        .globl  rt_jump
        .hidden rt_jump
        .type   rt_jump, @function
        .p2align 4
rt_jump:
        movq    %rdi, %rsp
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        addq    $8, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        popq    %rcx
        jmp     *%rcx
        .size   rt_jump, .-rt_jump

/* noreturn void rt_start(void *top, void (*entry)(void)): a return address of 0 ends backtraces */
        .globl  rt_start
        .hidden rt_start
        .type   rt_start, @function
        .p2align 4
rt_start:
        movq    %rdi, %rsp
        xorl    %ebp, %ebp
        pushq   $0
        jmp     *%rsi
        .size   rt_start, .-rt_start

/* int bh_checkpoint_(struct bh_checkpoint *): 0 now, 1 when rt_resume lands here */
        .globl  bh_checkpoint_
        .type   bh_checkpoint_, @function
        .p2align 4
bh_checkpoint_:
        .cfi_startproc
        movq    (%rsp), %rdx
        leaq    8(%rsp), %rcx
        movq    %rbx, (%rdi)
        movq    %rbp, 8(%rdi)
        movq    %r12, 16(%rdi)
        movq    %r13, 24(%rdi)
        movq    %r14, 32(%rdi)
        movq    %r15, 40(%rdi)
        movq    %rcx, 48(%rdi)
        movq    %rdx, 56(%rdi)
        xorl    %eax, %eax
        ret
        .cfi_endproc
        .size   bh_checkpoint_, .-bh_checkpoint_

/* noreturn void rt_resume(const struct bh_checkpoint *) */
        .globl  rt_resume
        .hidden rt_resume
        .type   rt_resume, @function
        .p2align 4
rt_resume:
        movq    (%rdi), %rbx
        movq    8(%rdi), %rbp
        movq    16(%rdi), %r12
        movq    24(%rdi), %r13
        movq    32(%rdi), %r14
        movq    40(%rdi), %r15
        movl    $1, %eax
        cld
        movq    48(%rdi), %rsp
        jmp     *56(%rdi)
        .size   rt_resume, .-rt_resume

/*
 * void rt_call_deferred(void (*fn)(uintptr_t), uintptr_t arg, uintptr_t *cfa)
 *
 * The stack pointer at the call instruction is the callee's canonical frame
 * address: what its __builtin_dwarf_cfa() gives.
 */
        .globl  rt_call_deferred
        .hidden rt_call_deferred
        .type   rt_call_deferred, @function
        .p2align 4
rt_call_deferred:
        .cfi_startproc
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register rbp
        movq    %rsp, (%rdx)
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        popq    %rbp
        .cfi_def_cfa rsp, 8
        ret
        .cfi_endproc
        .size   rt_call_deferred, .-rt_call_deferred

/*
 * Entered by sigreturn: the handler stored the faulting pc as a return address
 * 136 bytes below the faulting stack pointer, past the red zone.  The CFI says
 * so, as a signal frame, so that every unwinder walks from the panic through
 * the faulting instruction to its callers.
 */
        .globl  rt_sigpanic
        .hidden rt_sigpanic
        .type   rt_sigpanic, @function
        .p2align 4
rt_sigpanic:
        .cfi_startproc
        .cfi_signal_frame
        .cfi_def_cfa rsp, 136
        .cfi_offset rip, -136
        pushq   %rbp
        .cfi_def_cfa_offset 144
        .cfi_offset rbp, -144
        movq    %rsp, %rbp
        .cfi_def_cfa_register rbp
        andq    $-16, %rsp
        call    rt_sigpanic_c
        ud2
        .cfi_endproc
        .size   rt_sigpanic, .-rt_sigpanic

/*
 * A libc function that overflowed the stack returns here instead of to its caller
 * (signal.c): panic there, or go on with its result.  The caller's frame begins
 * at the stack pointer.
 */
        .globl  rt_overflow_return
        .hidden rt_overflow_return
        .type   rt_overflow_return, @function
        .p2align 4
        nop
rt_overflow_return:
        subq    $144, %rsp
        movq    %rax, 8(%rsp)
        movq    %rdx, 16(%rsp)
        movups  %xmm0, 32(%rsp)
        call    rt_overflow_landed
        testq   %rdx, %rdx
        jne     1f
        addq    $8, %rsp
        movq    %rax, (%rsp)
        jmp     rt_sigpanic
1:      movq    %rdx, %r11
        movq    8(%rsp), %rax
        movq    16(%rsp), %rdx
        movups  32(%rsp), %xmm0
        addq    $144, %rsp
        jmp     *%r11
        .size   rt_overflow_return, .-rt_overflow_return

        .section .note.GNU-stack, "", @progbits
