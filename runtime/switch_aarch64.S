/*
 * switch_aarch64.S -- the context switch, checkpoint, deferred call and fault
 * entry for 64-bit Arm; switch_x86_64.S has the explanations.
 *
 * A suspended context, from its stack pointer upwards (176 bytes):
 *
 *     x29 x30 | x19 .. x28 | d8 .. d15 | fpcr, pad
 */

        .text

        .macro  SAVE
        sub     sp, sp, #176
        stp     x29, x30, [sp]
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mrs     x9, fpcr
        str     x9, [sp, #160]
        .endm

        .macro  RESTORE
        ldr     x9, [sp, #160]
        msr     fpcr, x9
        ldp     d14, d15, [sp, #144]
        ldp     d12, d13, [sp, #128]
        ldp     d10, d11, [sp, #112]
        ldp     d8, d9, [sp, #96]
        ldp     x27, x28, [sp, #80]
        ldp     x25, x26, [sp, #64]
        ldp     x23, x24, [sp, #48]
        ldp     x21, x22, [sp, #32]
        ldp     x19, x20, [sp, #16]
        ldp     x29, x30, [sp]
        add     sp, sp, #176
        .endm

        .globl  rt_switch
        .hidden rt_switch
        .type   rt_switch, %function
        .p2align 4
rt_switch:
        .cfi_startproc
        SAVE
        .cfi_def_cfa_offset 176
        .cfi_offset x29, -176
        .cfi_offset x30, -168
        mov     x9, sp
        stlr    x9, [x0]        /* who sees it sees the stack: inspect.c */
        mov     sp, x1
        RESTORE
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        mov     x16, x30
        br      x16
        .cfi_endproc
        .size   rt_switch, .-rt_switch

        .globl  rt_jump
        .hidden rt_jump
        .type   rt_jump, %function
        .p2align 4
rt_jump:
        mov     sp, x0
        RESTORE
        mov     x16, x30
        br      x16
        .size   rt_jump, .-rt_jump

        .globl  rt_start
        .hidden rt_start
        .type   rt_start, %function
        .p2align 4
rt_start:
        mov     sp, x0
        mov     x29, #0
        mov     x30, #0
        br      x1
        .size   rt_start, .-rt_start

        .globl  bh_checkpoint_
        .type   bh_checkpoint_, %function
        .p2align 4
bh_checkpoint_:
        .cfi_startproc
        stp     x19, x20, [x0]
        stp     x21, x22, [x0, #16]
        stp     x23, x24, [x0, #32]
        stp     x25, x26, [x0, #48]
        stp     x27, x28, [x0, #64]
        stp     x29, x30, [x0, #80]
        stp     d8, d9, [x0, #96]
        stp     d10, d11, [x0, #112]
        stp     d12, d13, [x0, #128]
        stp     d14, d15, [x0, #144]
        mov     x9, sp
        str     x9, [x0, #160]
        mov     w0, #0
        ret
        .cfi_endproc
        .size   bh_checkpoint_, .-bh_checkpoint_

        .globl  rt_resume
        .hidden rt_resume
        .type   rt_resume, %function
        .p2align 4
rt_resume:
        ldp     x19, x20, [x0]
        ldp     x21, x22, [x0, #16]
        ldp     x23, x24, [x0, #32]
        ldp     x25, x26, [x0, #48]
        ldp     x27, x28, [x0, #64]
        ldp     x29, x30, [x0, #80]
        ldp     d8, d9, [x0, #96]
        ldp     d10, d11, [x0, #112]
        ldp     d12, d13, [x0, #128]
        ldp     d14, d15, [x0, #144]
        ldr     x9, [x0, #160]
        mov     sp, x9
        mov     w0, #1
        br      x30
        .size   rt_resume, .-rt_resume

        .globl  rt_call_deferred
        .hidden rt_call_deferred
        .type   rt_call_deferred, %function
        .p2align 4
rt_call_deferred:
        .cfi_startproc
        stp     x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov     x29, sp
        mov     x9, sp
        str     x9, [x2]
        mov     x9, x0
        mov     x0, x1
        blr     x9
        ldp     x29, x30, [sp], #16
        ret
        .cfi_endproc
        .size   rt_call_deferred, .-rt_call_deferred

/*
 * Entered by sigreturn: the handler stored the old x30 at [sp] (having moved sp
 * down by 16) and set x30 to the faulting pc.
 */
        .globl  rt_sigpanic
        .hidden rt_sigpanic
        .type   rt_sigpanic, %function
        .p2align 4
rt_sigpanic:
        .cfi_startproc
        .cfi_signal_frame
        .cfi_def_cfa_offset 16
        stp     x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 32
        .cfi_offset x29, -32
        .cfi_offset x30, -24
        mov     x29, sp
        bl      rt_sigpanic_c
        brk     #1
        .cfi_endproc
        .size   rt_sigpanic, .-rt_sigpanic

/* A libc function that overflowed the stack returns here instead of to its caller (signal.c). */
        .globl  rt_overflow_return
        .hidden rt_overflow_return
        .type   rt_overflow_return, %function
        .p2align 4
        nop
rt_overflow_return:
        sub     sp, sp, #48
        stp     x0, x1, [sp]
        str     q0, [sp, #16]
        bl      rt_overflow_landed
        cbnz    x1, 1f
        mov     x30, x0
        add     sp, sp, #32
        str     x0, [sp]
        b       rt_sigpanic
1:      mov     x16, x1
        ldp     x0, x1, [sp]
        ldr     q0, [sp, #16]
        add     sp, sp, #48
        br      x16
        .size   rt_overflow_return, .-rt_overflow_return

        .section .note.GNU-stack, "", %progbits
